"""The page in a real Chromium: it plays, obeys the hand, shows what others do, comes back, and fits a phone."""

# ruff: noqa: E501 (scripts that run in the page)
from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from page_driver import Open, watch
from toy_server import AUDIO, PITCHES_HZ, RATE_HZ, TABLE, ToyServer, toy_server

from bridge.audio.faults import SlotFault
from bridge.cli.certificate import certified
from bridge.doors.access import tls_context
from bridge.session.commands import RackAction
from streamgen.config import number, switch, text

pytestmark = pytest.mark.device

SECONDS = 10
# Loudest frequency of what the analyser hears, in Hz.
PITCH = """(() => {
  const {analyser, rateHz} = streamgen.player;
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  return bins.indexOf(Math.max(...bins)) * rateHz / analyser.fftSize;
})()"""


def eventually(check: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until the server's side shows it."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_it_plays_for_ten_seconds_without_an_underrun(opened: Open) -> None:
    opened.play()
    assert opened.ask("streamgen.player.rateHz") == RATE_HZ
    opened.page.wait_for_timeout(SECONDS * 1000)
    report = opened.ask("streamgen.player.report")
    assert (report["underruns"], report["starvedSeconds"], report["skippedSeconds"]) == (0, 0, 0)
    assert report["heard"] >= SECONDS * RATE_HZ
    assert max(report["peak"]) > 0.2
    assert opened.page.inner_text("#stat-factor") == "1.84"
    assert opened.page.get_attribute("#level", "aria-valuetext").endswith("dB")


def test_the_button_pressed_before_the_server_answers_plays_when_it_does(chromium: Any) -> None:
    with toy_server(silent_seconds=0.7) as server:
        context = chromium.new_context()
        opened = watch(context.new_page())
        opened.page.goto(server.url)
        opened.page.click("#play")
        assert not opened.ask("streamgen.session.greeted"), "this test wants a server that has not answered yet"
        opened.until("streamgen.player.report.heard > 3200 && !streamgen.player.report.waiting")
        assert server.session.playing
        context.close()
        assert opened.complaints == []


def test_a_page_that_hangs_does_not_stop_the_music(opened: Open) -> None:
    opened.play()
    opened.page.wait_for_timeout(500)
    before = opened.ask("streamgen.player.report")
    opened.ask("(() => { for (const began = performance.now(); performance.now() - began < 3000; ); })()")
    opened.until(f"streamgen.player.report.heard > {before['heard']} + 2.5 * {RATE_HZ}")
    assert opened.ask("streamgen.player.report.underruns") == before["underruns"], "six times what is buffered"


def test_the_pictures_are_drawn_once_a_report_and_not_at_all_in_silence(opened: Open) -> None:
    opened.ask("""(() => {
        window.count = {spectrum: 0, level: 0, reports: 0};
        const wipe = CanvasRenderingContext2D.prototype.clearRect;
        CanvasRenderingContext2D.prototype.clearRect = function (...box) { count[this.canvas.id] += 1; wipe.apply(this, box); };
        streamgen.player.addEventListener('report', () => (count.reports += 1));
    })()""")
    opened.play()
    opened.until("count.reports > 50")
    count = opened.ask("count")
    assert 0 < count["spectrum"] == count["level"] <= count["reports"]
    opened.page.click("#play")
    opened.until("(([was, is]) => was === is)([window.last, window.last = count.spectrum])", every_ms=500)
    reports = opened.ask("count.reports")
    opened.until(f"count.reports > {reports} + 10")
    assert opened.ask("count.spectrum === window.last"), "silence is drawn once"


def test_every_control_comes_from_the_table(opened: Open) -> None:
    shown = set(opened.ask("[...document.querySelectorAll('[data-parameter]')].map((e) => e.dataset.parameter)"))
    assert shown == set(TABLE) - {"midi/map", "midi/learn"}, "the server's MIDI: the page has the browser's own"
    for row in (row for row in TABLE.values() if row.type in ("int", "float") and row.name != "seed"):
        slider = opened.knob(row.name)
        shown = [float(slider.get_attribute(f"aria-value{part}")) for part in ("min", "max", "now")]
        assert shown == [row.low, row.high, row.default], row.name
        assert slider.get_attribute("title") == row.description


def test_a_parameter_added_to_the_table_appears_with_nothing_else_changed(chromium: Any) -> None:
    added = {
        "swing": number(-1, 1, 0.25, "", "how late the off-beats are"),
        "voices": number(1, 64, 8, "", "how many sound at once", whole=True),
        "freeze": switch(True, "holds what sounds"),
        "title": text("what it is called", "untitled"),
        "scale": text("which notes are allowed", "minor", ("major", "minor", "all")),
    }
    with toy_server() as server:
        server.session.table |= {name: replace(row, name=name) for name, row in added.items()}
        server.session.values |= {name: row.default for name, row in added.items()}
        context = chromium.new_context()
        opened = watch(context.new_page())
        opened.page.goto(server.url)
        opened.connected()
        roles = {
            name: opened.knob(name).evaluate("(e) => e.role ?? e.getAttribute('role') ?? e.localName") for name in added
        }
        assert roles == {"swing": "slider", "voices": "slider", "freeze": "switch", "title": "input", "scale": "select"}
        assert opened.knob("swing").get_attribute("aria-valuenow") == "0.25"
        assert opened.knob("freeze").get_attribute("aria-checked") == "true"
        assert opened.knob("title").input_value() == "untitled"
        assert opened.knob("scale").input_value() == "minor"
        assert opened.knob("scale").evaluate("(e) => [...e.options].map((o) => o.value)") == ["major", "minor", "all"]
        opened.knob("scale").select_option("all")
        eventually(lambda: server.session.values["scale"] == "all")
        opened.knob("freeze").click()
        eventually(lambda: server.session.values["freeze"] is False)
        server.change({"scale": "major", "swing": -0.5})
        opened.until("document.querySelector('[data-parameter=scale]').value === 'major'")
        opened.knob("swing").dblclick()
        eventually(lambda: server.session.values["swing"] == 0.25)
        context.close()
        assert opened.complaints == []


def test_a_reset_knob_goes_to_the_models_own_default(chromium: Any) -> None:
    with toy_server() as server:
        server.session.table["guidance_scale"] = replace(TABLE["guidance_scale"], default=1.0)
        server.session.values["guidance_scale"] = 7.5
        context = chromium.new_context()
        opened = watch(context.new_page())
        opened.page.goto(server.url)
        opened.connected()
        opened.knob("guidance_scale").focus()
        opened.page.keyboard.press("Delete")
        eventually(lambda: server.session.values["guidance_scale"] == 1.0)
        context.close()
        assert opened.complaints == []


def test_the_button_shows_what_the_player_does(opened: Open, server: ToyServer) -> None:
    shown = "document.querySelector('#play').getAttribute('aria-label')"
    opened.play()
    server.transport("pause", "paused")
    opened.until(f"{shown} === 'Play'")
    server.transport("audio_prompt", "paused")  # while it pauses: nothing plays for that
    opened.page.wait_for_timeout(200)
    assert opened.ask(shown) == "Play"
    assert opened.ask("document.body.dataset.transport") == "paused"
    for state in ("starting", "failed", "late", "stopped", "playing"):
        server.transport("reset", state)
        opened.until(f"{shown} === '{'Play' if state in ('failed', 'stopped') else 'Pause'}'")


def test_each_sample_is_heard_when_it_is_due_and_hardly_later(opened: Open) -> None:
    opened.play()
    opened.ask("""(() => {
        window.late = [];
        streamgen.player.addEventListener('report', ({detail}) => detail.waiting || late.push(detail.lateness));
    })()""")
    opened.until("late.length > 75")
    late = opened.ask("late.slice(25)")
    print(f"heard {1000 * float(np.median(late)):.0f} ms after it was due, by the sound system's own clock")
    assert 0 <= np.median(late) < 0.06
    assert opened.ask("streamgen.player.report.underruns") == 0


def test_dragging_a_knob_sends_while_it_moves_and_the_music_follows(opened: Open, server: ToyServer) -> None:
    opened.play()
    opened.until(f"Math.abs({PITCH} - {PITCHES_HZ[0]}) < 12")
    box = opened.knob("prompt/2/weight").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    for step in range(1, 41):
        opened.page.mouse.move(x, y - 3 * step)
        opened.page.wait_for_timeout(10)
    opened.page.mouse.up()
    shown = float(opened.knob("prompt/2/weight").get_attribute("aria-valuenow"))
    eventually(lambda: abs(server.session.values["prompt/2/weight"] - shown) < 1e-3)  # the last value arrived
    sent = [values["prompt/2/weight"] for values in server.sets()]
    assert len(sent) >= 4, "sent while dragging"
    assert sent == sorted(sent)
    expected = server.session.pitch_hz()
    opened.until(f"Math.abs({PITCH} - {expected}) < 12")


def test_a_fast_hand_is_sent_in_turns_and_its_last_value_always(opened: Open, server: ToyServer) -> None:
    milliseconds = opened.ask("""async () => {
        const began = performance.now();
        for (let i = 1; i <= 100; i++) {
            streamgen.state.set('prompt/2/weight', i / 100);
            await new Promise((done) => setTimeout(done, 4));
        }
        return performance.now() - began;
    }""")
    eventually(lambda: server.session.values["prompt/2/weight"] == 1)
    assert 4 <= len(server.sets()) <= milliseconds / 40 + 2


def test_the_surface_blends_by_inverse_distance(opened: Open, server: ToyServer) -> None:
    opened.play()
    box = opened.page.locator("#surface").bounding_box()
    point = opened.page.locator('.point[data-number="3"]').bounding_box()
    x, y = point["x"] + point["width"] / 2, point["y"] + point["height"] / 2 + 60
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.page.mouse.down()
    opened.page.mouse.move(x, y, steps=8)
    opened.page.mouse.up()
    places = opened.ask("""[...document.querySelectorAll('.point')].filter((p) => !p.hidden)
        .map((p) => [parseFloat(p.style.left) / 100, parseFloat(p.style.top) / 100])""")
    cursor = opened.ask(
        "(({left, top}) => [parseFloat(left) / 100, parseFloat(top) / 100])(document.querySelector('.cursor').style)"
    )
    pulls = 1 / np.sum((np.array(places) - cursor) ** 2, axis=1)
    expected = np.where(pulls / pulls.max() < 0.015, 0, pulls / pulls.max())
    assert len(places) == 5
    assert np.argmax(expected) == 2
    weights = [f"prompt/{slot}/weight" for slot in range(1, 6)]
    eventually(lambda: np.allclose([server.session.values[name] for name in weights], expected, atol=0.02))
    pitch = server.session.pitch_hz()
    opened.until(f"Math.abs({PITCH} - {pitch}) < 12")


NAMES = "[...document.querySelectorAll('.unit-name')].map((e) => e.textContent)"


def test_an_effect_is_added_turned_bypassed_and_taken_out(opened: Open, server: ToyServer) -> None:
    assert opened.page.locator(".rack-empty").is_visible()
    opened.page.select_option('[data-rack="add"]', "reverb")
    opened.until(f"{NAMES}.join() === 'reverb'")
    assert not opened.page.locator(".rack-empty").is_visible()
    shown = opened.ask("[...document.querySelectorAll('[data-parameter^=plugin]')].map((e) => e.dataset.parameter)")
    assert set(shown) == {name for name in server.session.table if name.startswith("plugin/1/")}
    assert shown[0] == "plugin/1/decay_seconds", "its own knobs first"
    opened.knob("plugin/1/wet").focus()
    opened.page.keyboard.press("End")
    eventually(lambda: server.session.values["plugin/1/wet"] == 1)
    opened.knob("plugin/1/bypass").click()
    eventually(lambda: server.session.values["plugin/1/bypass"] is True)
    server.change({"plugin/1/wet": 0.5})
    opened.until("document.querySelector('[data-parameter=\"plugin/1/wet\"]').ariaValueNow === '0.5'")
    opened.page.click(".unit-out")
    opened.until("document.querySelectorAll('.unit').length === 0")
    assert opened.page.locator(".rack-empty").is_visible()


def test_what_others_do_to_the_rack_is_shown_and_leaves_a_knob_in_the_hand(opened: Open, server: ToyServer) -> None:
    for effect in ("tilt", "reverb"):
        server.edit(RackAction.ADD, effect=effect)
    opened.until(f"{NAMES}.join() === 'tilt,reverb'")
    opened.ask("(() => { window.held = document.querySelector('[data-parameter=\"plugin/2/wet\"]'); })()")
    server.edit(RackAction.ADD, effect="saturation", index=0)
    server.edit(RackAction.MOVE, 1, index=2)
    opened.until(f"{NAMES}.join() === 'saturation,reverb,tilt'")
    assert opened.ask("window.held === document.querySelector('[data-parameter=\"plugin/2/wet\"]')")
    server.edit(RackAction.REPLACE, 2, "compressor")
    opened.until(f"{NAMES}.join() === 'saturation,compressor,tilt'")
    assert opened.knob("plugin/2/ratio").get_attribute("aria-valuenow") == "2"
    server.fault(SlotFault(2, "compressor", "it ended by signal 11", 1, False))
    opened.until("document.querySelector('.is-failed .unit-fault')?.textContent === 'it ended by signal 11'")
    opened.until("document.querySelector('#toast').textContent.includes('its input is heard')")
    server.fault(SlotFault(2, "compressor", "", 1, False))
    opened.until("!document.querySelector('.is-failed')")
    notices(opened)
    server.close_all()
    opened.until("notices.length && document.body.dataset.link === 'open'")
    opened.until(f"{NAMES}.join() === 'saturation,compressor,tilt'")


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "keys"])
def test_effects_are_put_into_another_order(opened: Open, server: ToyServer, touch: bool) -> None:
    for effect in ("tilt", "reverb", "saturation"):
        server.edit(RackAction.ADD, effect=effect)
    opened.until(f"{NAMES}.join() === 'tilt,reverb,saturation'")
    handle = opened.page.locator('[data-slot="3"] .unit-handle')
    handle.scroll_into_view_if_needed()
    if touch:
        handle.focus()
        for order in ("tilt,saturation,reverb", "saturation,tilt,reverb"):
            opened.page.keyboard.press("ArrowLeft")
            opened.until(f"{NAMES}.join() === '{order}'")
    else:
        start, end = handle.bounding_box(), opened.page.locator('[data-slot="1"]').bounding_box()
        opened.page.mouse.move(start["x"] + 10, start["y"] + 10)
        opened.page.mouse.down()
        opened.page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=12)
        opened.page.mouse.up()
    opened.until(f"{NAMES}.join() === 'saturation,tilt,reverb'")
    eventually(lambda: [slot.slot for slot in server.session.rack.state()] == [3, 1, 2])
    assert opened.ask("document.activeElement.closest('.unit')?.dataset.slot") == "3", "the hand stays on it"


def test_a_preset_is_saved_and_recalled_by_name_over_some_seconds(opened: Open, server: ToyServer) -> None:
    opened.page.fill('[data-rack="name"]', "Night")
    opened.page.click('[data-rack="save"]')
    opened.until("document.querySelector('#preset-names option')?.value === 'Night'")
    opened.page.fill('[data-rack="seconds"]', "8")
    opened.page.click('[data-rack="recall"]')
    eventually(lambda: len([message for message in server.messages if message["type"] == "preset"]) == 2)
    asked = [{**message, "id": 0} for message in server.messages if message["type"] == "preset"]
    assert asked == [
        {"type": "preset", "id": 0, "action": "save", "name": "Night"},
        {"type": "preset", "id": 0, "action": "recall", "name": "Night", "seconds": 8},
    ]


def test_an_effect_that_cannot_be_had_is_said_and_nothing_stays_loading(opened: Open, server: ToyServer) -> None:
    opened.ask("document.querySelector('[data-rack=add]').append(new Option('gone', 'gone'))")
    opened.page.select_option('[data-rack="add"]', "gone")
    opened.until("document.querySelector('#alert').textContent.includes(\"there is no effect 'gone'\")")
    assert opened.page.locator(".unit").count() == 0


def test_what_others_change_moves_the_controls(opened: Open, server: ToyServer) -> None:
    server.change({"temperature": 2.5, "prompt/6/text": "choir", "prompt/6/weight": 0.7, "mute": True})
    opened.until("document.querySelector('[data-parameter=\"temperature\"]').ariaValueNow === '2.5'")
    assert opened.knob("prompt/6/text").input_value() == "choir"
    assert opened.knob("prompt/6/weight").get_attribute("aria-valuenow") == "0.7"
    assert opened.knob("mute").get_attribute("aria-checked") == "true"
    opened.until("document.querySelector('.point[data-number=\"6\"]').checkVisibility()")
    assert server.sets() == [], "showing is not changing"


def test_a_light_shows_the_beat_when_it_is_heard(opened: Open, server: ToyServer) -> None:
    asked = {"type": "beats", "enabled": True}.items()
    eventually(lambda: any(asked <= message.items() for message in server.messages))
    opened.play()
    opened.until("streamgen.player.report.heard > 4800 && !streamgen.player.report.waiting")
    at = server.session.position + RATE_HZ // 10
    beat = {"type": "beat", "tempo": 117.5, "phase": -0.25, "source": "link", "rate_hz": RATE_HZ, "time_us": 0}
    server.tell(beat | {"beat": 8, "bar": 2, "applied_at_sample": at})
    early = "!document.querySelector('#beat').hidden && streamgen.player.report.heard < " + str(at)
    assert not opened.ask(early), "it is not heard yet"
    opened.until("!document.querySelector('#beat').hidden")
    assert opened.ask("streamgen.player.report.heard") >= at
    assert opened.page.inner_text("#beat-words") == "117.5 bpm · link"
    assert opened.page.get_attribute("#beat", "class") == "beat is-downbeat"


def test_a_refused_change_goes_back_and_says_why(opened: Open, server: ToyServer) -> None:
    server.refuses = True
    opened.knob("guidance_scale").focus()
    opened.page.keyboard.press("ArrowUp")
    opened.until("document.querySelector('#alert').textContent === 'refused'")
    opened.until("document.querySelector('[data-parameter=\"guidance_scale\"]').ariaValueNow === '3'")


def test_it_is_played_from_the_keyboard(opened: Open, server: ToyServer) -> None:
    press = opened.page.keyboard.press
    press("Space")
    opened.until("streamgen.player.report.heard > 3200")
    press("2")
    assert opened.ask("document.activeElement.dataset.parameter") == "prompt/2/weight"
    press("ArrowUp")
    press("End")
    eventually(lambda: server.session.values["prompt/2/weight"] == 2)
    press("Enter")
    opened.page.keyboard.type("glass 1 harp")  # neither the space nor the digit may do anything else here
    press("Enter")
    eventually(lambda: server.session.values["prompt/2/text"] == "glass 1 harp")
    assert server.session.playing
    press("b")
    press("ArrowLeft")
    eventually(lambda: server.session.values["prompt/4/weight"] > 0)
    assert "%" in opened.page.get_attribute(".cursor", "aria-valuetext")
    press("Space")
    eventually(lambda: not server.session.playing)
    assert opened.page.get_attribute("#play", "aria-label") == "Play"
    assert opened.page.inner_text("#said") == "Paused"


def test_after_an_interruption_it_plays_what_is_due_then(opened: Open, server: ToyServer) -> None:
    opened.ask(
        "(() => { window.AudioContext = class extends AudioContext { constructor(...all) { super(...all); window.context = this; } }; })()"
    )
    opened.play()
    opened.ask("window.context.suspend()")
    opened.page.wait_for_timeout(2500)
    opened.ask("window.context.resume()")
    heard = opened.ask("streamgen.player.report.heard")
    opened.until(f"streamgen.player.report.heard > {heard} + {RATE_HZ} && !streamgen.player.report.waiting")
    assert abs(opened.ask("streamgen.player.report.lateness - streamgen.player.report.delay")) < 0.05
    assert opened.ask("streamgen.player.report.underruns") == 0


def test_pause_holds_and_play_goes_on_without_an_underrun(opened: Open, server: ToyServer) -> None:
    opened.play()
    opened.page.click("#play")
    eventually(lambda: not server.session.playing)
    opened.until("Math.max(...streamgen.player.report.peak) === 0")
    held = opened.ask("streamgen.player.report")
    opened.page.wait_for_timeout(300)
    assert opened.ask("streamgen.player.report.heard") == held["heard"]
    assert max(opened.ask("streamgen.player.report.peak")) == 0
    opened.page.click("#play")
    opened.until(f"streamgen.player.report.heard > {held['heard'] + RATE_HZ}")
    assert opened.ask("streamgen.player.report.underruns") == 0


def test_a_recording_is_the_stream_byte_for_byte(opened: Open, server: ToyServer) -> None:
    opened.play()
    opened.page.keyboard.press("r")
    assert opened.page.get_attribute("#record", "aria-pressed") == "true"
    opened.page.wait_for_timeout(2000)
    with opened.page.expect_download() as download:
        opened.page.keyboard.press("r")
    recorded, rate = soundfile.read(io.BytesIO(download.value.path().read_bytes()), dtype="int16")
    assert rate == RATE_HZ
    assert 1.8 < len(recorded) / RATE_HZ < 10, "as long as the key said, and what a busy machine takes to press it"
    stream = server.samples()
    starts = np.flatnonzero(np.all(stream[: -len(recorded)] == recorded[0], axis=1))
    assert any(np.array_equal(stream[start : start + len(recorded)], recorded) for start in starts)


def notices(opened: Open) -> None:
    """Note in the page what its notice says from now on: it may be gone before a test looks."""
    opened.ask("""(() => {
        window.notices = [];
        const place = document.querySelector('#notice-words');
        new MutationObserver(() => notices.push(place.textContent)).observe(place, {childList: true});
    })()""")


def test_it_reconnects_by_itself_and_says_so(opened: Open, server: ToyServer) -> None:
    opened.play()
    notices(opened)
    server.session.values["temperature"] = 1.75  # nobody is told
    server.close_all()
    opened.until("notices.some((words) => words.includes('Trying again'))")
    opened.connected()
    opened.until("document.querySelector('#said').textContent === 'Connected again'")
    assert not opened.page.locator("#notice").is_visible()
    assert opened.knob("temperature").get_attribute("aria-valuenow") == "1.75"
    heard = opened.ask("streamgen.player.report.heard")
    opened.until(f"streamgen.player.report.heard > {heard + 2 * RATE_HZ}")
    eventually(lambda: len(server.clients) == 1)


def test_a_server_started_anew_is_followed_from_its_beginning(opened: Open, server: ToyServer) -> None:
    opened.play()
    opened.page.wait_for_timeout(1500)
    notices(opened)
    server.start_anew()
    server.close_all()
    opened.until("notices.length && document.body.dataset.link === 'open'")
    opened.until(f"streamgen.player.report.heard < {2 * RATE_HZ} && !streamgen.player.report.waiting")


def test_a_refused_button_goes_back(opened: Open, server: ToyServer) -> None:
    server.refuses = True
    opened.page.click("#play")
    opened.until("document.querySelector('#alert').textContent === 'refused'")
    assert opened.page.get_attribute("#play", "aria-label") == "Play"
    assert not server.session.playing


def test_starvation_is_counted_and_ends_by_itself(opened: Open, server: ToyServer) -> None:
    opened.play()
    opened.page.wait_for_timeout(300)
    before = opened.ask("streamgen.player.report.underruns")
    server.stalled = True
    opened.until("document.body.classList.contains('is-buffering')")
    server.stalled = False
    opened.until("!streamgen.player.report.waiting")
    assert opened.ask("streamgen.player.report.underruns") == before + 1
    assert opened.ask("streamgen.player.report.starvedSeconds") > 0
    opened.until(f"document.querySelector('#stat-underruns').textContent === '{before + 1}'")


def played_from_another_host(context: Any, url: str, *, secure: bool) -> Any:
    """The page under another name of this machine, once it sounds."""
    opened = watch(context.new_page())
    opened.page.goto(url.replace("127.0.0.1", "studio.test"))
    opened.connected()
    assert opened.ask("isSecureContext") is secure
    began = time.monotonic()
    opened.play()
    print(f"sound {time.monotonic() - began:.1f} s after Play")
    return opened


def test_it_plays_over_plain_http_from_another_host(
    chromium: Any, server: ToyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers offer AudioWorklet to secure pages only, and a LAN's name is none."""
    monkeypatch.setattr("toy_server.LEAD_SECONDS", 0.2)  # as the service's
    context = chromium.new_context(viewport={"width": 390, "height": 780})
    opened = played_from_another_host(context, server.url, secure=False)
    assert opened.ask("Math.max(...streamgen.player.report.peak)") > 0
    assert not opened.ask("document.body.classList.contains('is-buffering')")
    heard = opened.ask("streamgen.player.report.heard")
    opened.until(f"streamgen.player.report.heard > {heard} + 2 * streamgen.player.rateHz")
    context.close()
    assert [line for line in opened.complaints if "ScriptProcessorNode is deprecated" not in line] == []


def test_a_browser_without_sound_says_so_and_does_not_spin(opened: Open) -> None:
    opened.ask("void (AudioContext.prototype.resume = () => new Promise(() => {}), AudioContext.prototype.close.call)")
    opened.ask("void (globalThis.AudioWorkletNode = class { constructor() { throw new Error('no device') } })")
    opened.page.click("#play")
    opened.until("document.getElementById('alert').innerText.includes('There is no sound here: no device')")
    assert not opened.ask("document.body.classList.contains('is-buffering')")
    assert opened.ask("streamgen.player.started") is False


def test_a_token_leaves_the_address_bar_and_survives_a_reload(chromium: Any) -> None:
    with toy_server(token="secret") as server:
        for form in ("?token=secret&session=live", "#token=secret"):
            context = chromium.new_context()
            opened = watch(context.new_page())
            opened.page.goto(server.url + form)
            for _ in range(2):
                opened.connected()
                assert "secret" not in opened.page.url
                assert opened.page.url.endswith("?session=live" if "session" in form else "/")
                opened.page.reload()
            context.close()
            assert opened.complaints == []


def test_it_plays_over_tls_from_another_host(chromium: Any, tmp_path: Path) -> None:
    """With the certificate that `streamgen certificate` makes; a phone's person goes on past the warning."""
    (tmp_path / "cert").write_bytes((made := certified(["studio.test"]))[0])
    (tmp_path / "key").write_bytes(made[1])
    with toy_server(tls=tls_context(tmp_path / "cert", tmp_path / "key")) as server:
        context = chromium.new_context(viewport={"width": 390, "height": 780}, ignore_https_errors=True)
        played_from_another_host(context, server.url, secure=True)
        context.close()


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("phone", [False, True])
def test_axe_finds_nothing_serious_and_a_finger_everything(
    chromium: Any, server: ToyServer, scheme: str, phone: bool
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs `pip install axe-playwright-python`"
    )
    for effect in ("equalizer", "reverb"):
        server.session.edit(RackAction.ADD, effect=effect)
    size = {"width": 390, "height": 780} if phone else {"width": 1280, "height": 900}
    context = chromium.new_context(viewport=size, color_scheme=scheme, has_touch=phone, is_mobile=phone)
    opened = watch(context.new_page())
    opened.page.goto(server.url)
    opened.connected()
    opened.page.click("summary")
    found = axe.Axe().run(opened.page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []
    if phone:
        small = opened.ask("""[...document.querySelectorAll('button, .knob, textarea, input, select, summary, .control-value')]
            .filter((e) => e.checkVisibility()).map((e) => [e.className, e.getBoundingClientRect()])
            .filter(([, {width, height}]) => Math.min(width, height) < 44).map(([name]) => name)""")
        assert small == []
        assert opened.ask("document.documentElement.scrollWidth") == size["width"]
    context.close()
    assert opened.complaints == []


def test_a_number_is_typed_and_an_empty_slot_plays_what_it_suggests(opened: Open, server: ToyServer) -> None:
    opened.page.click(".control-knob:has([data-parameter='temperature']) .control-value")
    opened.page.keyboard.type("0.85")
    opened.page.keyboard.press("Enter")
    eventually(lambda: server.session.values["temperature"] == 0.85)
    assert opened.knob("temperature").get_attribute("aria-valuenow") == "0.85"
    opened.page.click(".slot:has([data-parameter='prompt/1/weight']) .slot-value")
    opened.page.keyboard.type("0.33")
    opened.page.keyboard.press("Enter")
    eventually(lambda: server.session.values["prompt/1/weight"] == 0.33)
    opened.knob("prompt/7/weight").focus()
    opened.page.keyboard.press("ArrowUp")
    eventually(lambda: server.session.values["prompt/7/weight"] > 0)
    suggestion = opened.knob("prompt/7/text").get_attribute("placeholder")
    eventually(lambda: server.session.values["prompt/7/text"] == suggestion)


def test_a_finger_that_rests_is_told_what_is_there_and_has_pressed_nothing(opened: Open, server: ToyServer) -> None:
    touch = """(kind, [x, y] = [50, 50]) => document.querySelector('#stop').dispatchEvent(
        new PointerEvent(kind, {bubbles: true, pointerType: 'touch', clientX: x, clientY: y}))"""
    told = "document.querySelector('#toast').textContent"
    opened.ask(f"({touch})('pointerdown')")
    opened.until(f"{told}.startsWith('Stop, for everybody')")
    opened.ask(f"(({touch})('pointerup'), document.querySelector('#stop').click())")
    opened.ask(
        f"(({touch})('pointerdown'), ({touch})('pointermove', [50, 90]), document.querySelector('#toast').textContent = '')"
    )
    opened.page.wait_for_timeout(900)
    assert opened.ask(told) == "", "one that drags wants something else"
    assert [one for one in server.messages if one["type"] == "transport"] == []
    opened.ask(f"(({touch})('pointerup'), document.querySelector('#stop').click())")
    eventually(lambda: [one["action"] for one in server.messages if one["type"] == "transport"] == ["stop"])


def test_a_slot_turned_up_by_another_hand_or_a_controller_is_filled_or_told(opened: Open, server: ToyServer) -> None:
    server.change({"prompt/8/weight": 0.5})
    opened.until("document.querySelector('#said').textContent.startsWith('Slot 8 is turned up and has no words')")
    assert server.session.values["prompt/8/text"] == "", "what another hand plays is its own"
    opened.ask("streamgen.state.set('prompt/7/weight', 0.5)")  # as midi.js does
    eventually(lambda: server.session.values["prompt/7/text"] == "suggestion 7")


def test_a_knob_stops_where_the_model_can_play_and_another_value_can_be_typed(opened: Open, server: ToyServer) -> None:
    opened.knob("tempo").focus()
    for expected in (94, 125, 150, 150):
        opened.page.keyboard.press("ArrowUp")
        eventually(lambda expected=expected: server.session.values["tempo"] == expected)  # type: ignore[misc]
    opened.page.keyboard.press("ArrowDown")
    eventually(lambda: server.session.values["tempo"] == 125)
    opened.page.click(".control-knob:has([data-parameter='tempo']) .control-value")
    opened.page.keyboard.type("111")
    opened.page.keyboard.press("Enter")
    eventually(lambda: server.session.values["tempo"] == 111)


def test_a_zero_that_stands_for_something_is_said_as_that(opened: Open, server: ToyServer) -> None:
    """Not "tempo 0 bpm", where the music goes as it goes."""
    value = opened.page.locator(".control-knob:has([data-parameter='tempo']) .control-value")
    assert value.inner_text() == "as the music goes"
    assert opened.knob("tempo").get_attribute("aria-valuetext") == "as the music goes"
    server.change({"tempo": 94.0, "top_k": 0})
    opened.until("document.querySelector('[data-parameter=\"tempo\"]').ariaValueNow === '94'")
    assert value.inner_text().split() == ["94", "bpm"]
    assert opened.knob("tempo").get_attribute("aria-valuetext") == "94 bpm"
    assert opened.knob("top_k").get_attribute("aria-valuetext") == "all"


CLOCK = "document.querySelector('#clock').textContent"
LEVEL = "document.querySelector('#level').getAttribute('aria-valuetext')"


def shows_the_music(opened: Open) -> None:
    """Without a sound of its own: the clock runs, the level is the server's."""
    before = opened.ask(CLOCK)
    opened.until(f"{CLOCK} !== {before!r}")
    opened.until(f"{LEVEL} === '-6 dB'")


def test_where_the_page_makes_no_sound_clock_and_level_are_the_servers(opened: Open, server: ToyServer) -> None:
    label = "document.querySelector('#play').getAttribute('aria-label')"
    opened.play()
    opened.page.reload()
    opened.until(f"document.body.dataset.link === 'open' && {label} === 'Join the music'")
    assert opened.page.inner_text("#arrival") == "playing: press to join"
    shows_the_music(opened)
    opened.page.click("#play")
    opened.until("streamgen.player.report.heard > 3200 && !streamgen.player.report.waiting")
    assert server.session.playing
    assert opened.page.inner_text("#arrival") == ""
    opened.page.click("#listen")
    shows_the_music(opened)
    opened.page.reload()
    opened.connected()
    assert opened.page.get_attribute("#listen", "aria-checked") == "false", "as it was left"
    shows_the_music(opened)
    server.session.playing = False
    server.transport("pause", "paused")
    opened.until(f"{label} === 'Play' && {LEVEL} === 'silent'")
    # what was told before the pause may still be on its way
    opened.until(f"(([was, is]) => was === is)([window.last, window.last = {CLOCK}])", every_ms=1200)


def test_what_blending_costs_is_told_before_the_sound_runs_dry(opened: Open, server: ToyServer) -> None:
    cost = "document.querySelector('#blend-cost')"
    opened.play()
    assert opened.page.inner_text("#blend-cost") == "drag through the colours"
    server.change({"prompt/2/weight": 1.0, "prompt/3/weight": 0.2})
    opened.until(f"{cost}.textContent === '3 prompts at 1.84 × real time'")
    server.realtime_factor = 0.8
    opened.until(f"{cost}.textContent === '3 prompts at 0.80 × real time' && {cost}.classList.contains('is-bad')")
    said = "3 prompts at once are too many here: fewer are faster. The sound runs dry in 3 s"
    opened.until(f"document.querySelector('#alert').textContent === {said!r}")
    assert opened.ask("streamgen.player.report.underruns") == 0


def test_a_recording_that_is_dropped_is_what_the_music_goes_on_from(opened: Open, server: ToyServer) -> None:
    opened.ask("""(() => { const data = new DataTransfer(); data.items.add(new File(['RIFF and more'], 'take.wav'));
        document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); })()""")
    eventually(lambda: server.uploads == [b"RIFF and more"])
    opened.until("document.querySelector('#said').textContent === 'The music goes on from what was dropped'")


@pytest.mark.parametrize(
    ("follows", "words", "sent"),
    [
        ("melody", "Follow its melody", "melody"),
        ("style", "Take on its style", "style"),
        ("style", "Go on from it", "audio_prompt"),
        ("melody", "Nothing", None),
    ],
)
def test_what_a_recording_is_for_is_asked_where_the_music_can_follow_it(
    chromium: Any, server: ToyServer, follows: str, words: str, sent: str | None
) -> None:
    server.follows = [follows]
    opened = watch(chromium.new_page())
    opened.page.goto(server.url)
    opened.connected()
    opened.ask("""(() => { const data = new DataTransfer(); data.items.add(new File(['RIFF and more'], 'take.wav'));
        document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); })()""")
    assert opened.page.inner_text("#dropped h2") == "What is take.wav for?"
    other = {"melody": "style", "style": "melody"}[follows]
    assert not opened.page.is_visible(f"#dropped button[value={other}]")
    opened.page.click(f"#dropped button:text('{words}')")
    eventually(lambda: server.uploads == [b"RIFF and more"] * bool(sent))
    opened.page.click("#unfollow")
    expected = [*([sent] if sent else []), follows]
    eventually(lambda: [one["type"] for one in server.messages if one["type"] in AUDIO] == expected)
    assert [one["bytes"] for one in server.messages if one["type"] in AUDIO] == [13, 0][-len(expected) :]
    opened.page.close()
    assert opened.complaints == []


def test_stop_and_anew_are_asked_of_the_server(opened: Open, server: ToyServer) -> None:
    opened.play()
    opened.page.click("#stop")
    eventually(lambda: not server.session.playing)
    opened.page.click("#reset")
    eventually(
        lambda: [one["action"] for one in server.messages if one["type"] == "transport"] == ["play", "stop", "reset"]
    )


@pytest.mark.parametrize("listening", [True, False])
def test_the_parts_of_a_scene_are_named_when_they_are_heard(opened: Open, server: ToyServer, listening: bool) -> None:
    opened.play()
    if not listening:
        opened.page.click("#listen")
    at = int(opened.ask("streamgen.player.report.heard"))
    rate = int(opened.ask("streamgen.player.rateHz"))
    for name, seconds in (("break", 1.0), ("higher", 2.5)):
        server.tell({"type": "notice", "topic": "part", "text": name, "applied_at_sample": at + round(seconds * rate)})
    assert opened.page.inner_text("#arrival") == "", "it is not heard yet"
    for name in ("break", "higher", ""):
        opened.until(f"document.querySelector('#arrival').textContent === '{name}'")


def test_the_last_half_minute_is_asked_for_by_button_and_key_and_what_came_of_it_is_shown(
    opened: Open, server: ToyServer
) -> None:
    opened.page.click("#keep")
    opened.page.keyboard.press("k")
    eventually(lambda: [one["type"] for one in server.messages].count("keep") == 2)
    server.tell({"type": "notice", "topic": "kept", "text": "the last 30 s are take-1.flac", "applied_at_sample": 0})
    opened.until("document.getElementById('toast').textContent === 'the last 30 s are take-1.flac'")


def test_a_token_can_be_given(chromium: Any) -> None:
    with toy_server(token="secret") as server:
        context = chromium.new_context()
        opened = watch(context.new_page())
        opened.page.goto(server.url)
        opened.until("document.body.dataset.link === 'refused'")
        opened.page.fill("#token", "secret")
        opened.page.press("#token", "Enter")
        opened.connected()
        context.close()
        assert opened.complaints == []


@pytest.mark.parametrize("width", [360, 768, 1100, 1920])
def test_nothing_is_wider_than_the_screen_or_too_small_for_a_thumb(
    chromium: Any, server: ToyServer, width: int
) -> None:
    for effect in ("equalizer", "reverb", "compressor"):
        server.session.edit(RackAction.ADD, effect=effect)
    context = chromium.new_context(viewport={"width": width, "height": 780})
    opened = watch(context.new_page())
    opened.page.goto(server.url)
    opened.connected()
    assert opened.ask("document.documentElement.scrollWidth") == width
    beyond = opened.ask("""[...document.querySelectorAll('main *, header *, footer *')].filter((e) => e.checkVisibility()
        && !e.closest('.surface, svg, .knob, .unseen') && e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => e.className)""")
    assert beyond == []
    small = opened.ask("""[...document.querySelectorAll('button, .knob, textarea, input')].filter((e) => e.checkVisibility())
        .map((e) => [e.className, Math.min(e.getBoundingClientRect().width, e.getBoundingClientRect().height)]).filter(([, s]) => s < 32)""")
    assert small == []
    context.close()
    assert opened.complaints == []


@pytest.mark.parametrize("width", [360, 390])
def test_on_a_phone_nothing_lies_over_anything(chromium: Any, server: ToyServer, width: int) -> None:
    server.session.edit(RackAction.ADD, effect="reverb")
    size = {"width": width, "height": 740}
    context = chromium.new_context(viewport=size, has_touch=True, is_mobile=True)
    opened = watch(context.new_page())
    opened.page.goto(server.url)
    opened.connected()
    box = "(one => document.querySelector(one).getBoundingClientRect())"
    rows = opened.ask(
        "[...document.querySelectorAll('.head > *')].filter((e) => e.checkVisibility()).map((e) => e.offsetTop)"
    )
    assert max(rows) - min(rows) < 20, "the head is one row"
    opened.ask("document.querySelector('#beat').hidden = false")
    opened.ask("document.querySelector('#arrival').textContent = 'playing: press to join'")
    assert not opened.page.locator("#beat").is_visible()
    assert not opened.page.locator("#clock").is_visible()
    opened.ask("document.querySelector('#arrival').textContent = ''")
    assert opened.ask(f"{box}('#clock').right < {box}('#beat').left")
    beyond = opened.ask("""[...document.querySelectorAll('.panel')].flatMap((panel) => [...panel.querySelectorAll('*')].filter((e) =>
        e.checkVisibility() && !e.closest('.surface, svg, .knob, .unseen')
        && e.getBoundingClientRect().right > panel.getBoundingClientRect().right - 4).map((e) => e.className))""")
    assert beyond == []
    opened.ask("window.scrollTo(0, document.documentElement.scrollHeight)")
    assert opened.ask(f"{box}('footer').bottom <= {box}('.deck').top")
    opened.ask(
        "(document.querySelector('#toast').textContent = 'the last 30 s are take-20261129-191735.flac',"
        " document.querySelector('#toast').classList.add('is-shown'))"
    )
    assert opened.ask(f"{box}('#toast').bottom <= {box}('.deck').top + 12"), "12 px below its place while it comes"
    assert opened.ask(f"{box}('#toast').width") > 0.8 * width
    opened.page.click("#help")
    assert opened.ask("document.querySelector('#hints').scrollTop") == 0
    context.close()
    assert opened.complaints == []


def test_an_empty_session_offers_a_start(chromium: Any) -> None:
    with toy_server() as server:
        context = chromium.new_context()
        opened = watch(context.new_page())
        opened.page.goto(server.url)
        opened.connected()
        opened.page.click("#suggest")
        eventually(lambda: all(server.session.values[f"prompt/{slot}/text"] for slot in range(1, 7)))
        opened.until("[...document.querySelectorAll('.point')].filter((e) => e.checkVisibility()).length === 6")
        assert not opened.page.locator("#suggest").is_visible()
        context.close()
        assert opened.complaints == []


def test_a_midi_controller_is_learned_by_touching_both(chromium: Any, server: ToyServer) -> None:
    context = chromium.new_context(permissions=["midi"])
    context.add_init_script(
        "window.input = {}; navigator.requestMIDIAccess = async () => ({inputs: new Map([['a', window.input]])});"
    )
    opened = watch(context.new_page())
    opened.page.goto(server.url)
    opened.connected()
    opened.page.click("#midi")
    opened.until("document.querySelector('#midi').ariaPressed === 'true'")
    opened.knob("temperature").focus()
    opened.ask("input.onmidimessage({data: [0xb0, 74, 127]})")
    eventually(lambda: server.session.values["temperature"] == TABLE["temperature"].high)
    opened.page.click("#midi")
    opened.ask("input.onmidimessage({data: [0xb0, 74, 0]})")
    opened.ask("input.onmidimessage({data: [0xb0, 75, 99]})")  # nobody follows it
    eventually(lambda: server.session.values["temperature"] == TABLE["temperature"].low)
    assert server.sets()[-1] == {"temperature": TABLE["temperature"].low}
    server.edit(RackAction.ADD, effect="reverb")
    opened.until("document.querySelector('[data-parameter=\"plugin/1/wet\"]')")
    opened.page.click("#midi")
    opened.knob("plugin/1/wet").focus()
    opened.ask("input.onmidimessage({data: [0xb0, 76, 127]})")
    eventually(lambda: server.session.values["plugin/1/wet"] == 1)
    opened.page.reload()
    opened.connected()
    opened.until("window.input.onmidimessage !== undefined")
    opened.ask("input.onmidimessage({data: [0xb0, 74, 127]})")
    eventually(lambda: server.session.values["temperature"] == TABLE["temperature"].high)
    context.close()
    assert opened.complaints == []


def test_everything_that_can_be_touched_has_a_name(opened: Open) -> None:
    nameless = opened.ask("""[...document.querySelectorAll('button, [role], input, textarea, [tabindex]')]
        .filter((e) => e.checkVisibility() && !(e.ariaLabel || e.textContent.trim() || e.closest('label') || e.getAttribute('aria-labelledby') || ['status', 'alert'].includes(e.role)))
        .map((e) => e.outerHTML.slice(0, 80))""")
    assert nameless == []


def test_less_motion_is_honoured(chromium: Any, server: ToyServer) -> None:
    context = chromium.new_context(reduced_motion="reduce")
    opened = watch(context.new_page())
    opened.page.goto(server.url)
    opened.connected()
    moving = opened.ask(
        "[...document.querySelectorAll('*')].filter((e) => getComputedStyle(e).transitionDuration.split(', ').some((s) => s !== '0s')).length"
    )
    assert moving == 0
    context.close()


def test_a_damaged_frame_is_skipped_not_played(opened: Open) -> None:
    said = opened.ask("""import('./protocol.js').then(({parseFrame}) => {
        const tries = [new ArrayBuffer(8), new ArrayBuffer(32), new Uint8Array([1, 0, 2, ...new Array(29).fill(0), 7]).buffer];
        return tries.map((bytes) => { try { return parseFrame(bytes) && 'taken'; } catch (error) { return error.message; } });
    })""")
    assert said == [
        "frame of 8 bytes is shorter than a header",
        "frame version 0, this page reads 1",
        "frame of 0 × 2 s16le carries 1 bytes",
    ]
