"""Scripts for Csound, SuperCollider, TidalCycles and Sonic Pi: a line for each parameter, with its range.

Rules: returns bytes; no file, no socket.
"""

from __future__ import annotations

from bridge.doors.osc.layouts.surface import DEEDS, Surface, lines
from bridge.doors.osc.namespace import PREFIX
from streamgen.config import ControlSpec

__all__ = ["csound", "sonic_pi", "supercollider", "tidal"]


def _said(row: ControlSpec) -> str:
    return f"{row.in_words}: {row.description}" if row.in_words else row.description


def csound(on: Surface) -> bytes:
    """Csound: an instrument that sends, and a score that says a prompt; a line for each knob, to take the ; away."""
    turns = [f'; i "Turn" 0 0.1 "{on.at(row.name)}" {row.default:g} ; {_said(row)}' for row in on.knobs]
    return lines(
        [
            "<CsoundSynthesizer>",
            "<CsOptions>",
            "-n",
            "</CsOptions>",
            "<CsInstruments>",
            "instr Turn ; address, value",
            f'  OSCsend 1, "{on.host}", {on.port}, strget(p4), "f", p5',
            "endin",
            "instr Say ; address, words",
            f'  OSCsend 1, "{on.host}", {on.port}, strget(p4), "s", strget(p5)',
            "endin",
            "</CsInstruments>",
            "<CsScore>",
            f'i "Say" 0 0.1 "{on.at("prompt")}" "solo piano, 94 bpm"',
            *turns,
            "e 1",
            "</CsScore>",
            "</CsoundSynthesizer>",
        ]
    )


def supercollider(on: Surface) -> bytes:
    """SuperCollider: every parameter's ControlSpec, a slider for each, and an OSCdef that follows."""
    specs = [f"\t'{row.name}': ControlSpec({row.low:g}, {row.high:g}, default: {row.default:g})," for row in on.knobs]
    return lines(
        [
            "// streamgen from SuperCollider: evaluate all (Ctrl-Enter); ~streamgen.sendMsg(address, value) sends",
            "(",
            f'~streamgen = NetAddr("{on.host}", {on.port});',
            "~specs = (",
            *specs,
            ");",
            f'~follow = {{ ~streamgen.sendMsg("{on.at("subscribe")}", NetAddr.langPort) }};',
            "~keep = SkipJack(~follow, 20);  // for the first time after 20 s",
            '~window = Window("streamgen", Rect(100, 100, 460, 24 * (~specs.size + 1))).front;',
            "~window.addFlowLayout;",
            "~sliders = ~specs.collect { |spec, name|",
            f'\tEZSlider(~window, 440 @ 20, name, spec, {{ |ez| ~streamgen.sendMsg("{PREFIX}" ++ name, ez.value) }},',
            "\t\tspec.default, labelWidth: 160)",
            "};",
            "~specs.keysDo { |name|",
            f'\tOSCdef(name, {{ |msg| {{ ~sliders[name].value = msg[1] }}.defer }}, "{PREFIX}" ++ name)',
            "};",
            "~window.onClose = { ~keep.stop };",
            "~follow.value;",
            ")",
        ]
    )


def tidal(on: Surface) -> bytes:
    """TidalCycles: a target, and a control for each knob; `d1 $ sgTemperature "0.2 0.8"` turns one, 0 … 1."""
    rows = [(row, _camel(row.name)) for row in on.knobs]
    formats = [f'  , OSC "{on.at(f"{row.name}/norm")}" $ ArgList [("{name}", Nothing)]' for row, name in rows]
    first = f'  [ OSC "{on.at("prompt")}" $ ArgList [("sgPrompt", Nothing)]'
    return lines(
        [
            "-- streamgen from TidalCycles: put this into BootTidal.hs, and the pair into the list of startStream:",
            "--   tidal <- startStream defaultConfig",
            "--     [(superdirtTarget, [superdirtShape]), (streamgenTarget, streamgenFormats)]",
            "",
            f'let streamgenTarget = Target {{ oName = "streamgen", oAddress = "{on.host}", oPort = {on.port},',
            "      oLatency = 0.02, oWindow = Nothing, oSchedule = Live, oBusPort = Nothing, oHandshake = False }",
            "",
            ":{",
            "let streamgenFormats =",
            first,
            *formats,
            "  ]",
            ":}",
            "",
            'let sgPrompt = pS "sgPrompt"',
            *(f'let {name} = pF "{name}" -- {_said(row)}' for row, name in rows),
        ]
    )


def _camel(name: str) -> str:
    return "sg" + "".join(word.capitalize() for word in name.split("_"))


def sonic_pi(on: Surface) -> bytes:
    """Sonic Pi: a line for each parameter, and what it takes."""
    texts = [f'# osc "{on.at(row.name)}", "{row.default}" # {_said(row)}' for row in on.choices]
    return lines(
        [
            f'use_osc "{on.host}", {on.port}',
            f'osc "{on.at("prompt")}", "solo piano, 94 bpm"',
            *(f'# osc "{on.at(row.name)}", {row.default:g} # {_said(row)}' for row in on.knobs),
            *(f'# osc "{on.at(row.name)}", {int(bool(row.default))} # {_said(row)}' for row in on.switches),
            *texts,
            *(f'# osc "{on.at(word)}"' for word in DEEDS),
            "",
            "live_loop :beat do # Sonic Pi listens at 4560",
            '  beat, bar, tempo, phase = sync "/osc*/streamgen/beat"',
            "  puts beat, tempo",
            "end",
            "",
            "in_thread do",
            "  loop do",
            f'    osc "{on.at("subscribe")}", 4560',
            "    sleep 30",
            "  end",
            "end",
        ]
    )
