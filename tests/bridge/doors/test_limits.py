"""How much anyone may take: a rate and a burst, for each host."""

from __future__ import annotations

from bridge.doors.limits import Bucket, Buckets


def test_a_bucket_allows_bursts_and_a_rate() -> None:
    bucket = Bucket(10, 5)
    assert [bucket.take(1, 100.0) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(1, 100.25) for _ in range(3)] == [True, True, False]
    assert sum(bucket.take(1, 200.0) for _ in range(9)) == 5


def test_a_debt_is_waited_for() -> None:
    bucket = Bucket(10, 5)
    assert [bucket.owe(5, 100.0), bucket.owe(1, 100.0)] == [0.0, 0.1]
    assert not bucket.take(0.5, 100.1)
    assert bucket.take(0.5, 100.15)


def test_hosts_have_buckets_of_their_own_and_the_oldest_is_forgotten() -> None:
    buckets = Buckets(1, 1)
    assert buckets.of("a").take(1, 0.0)
    assert not buckets.of("a").take(1, 0.0)
    assert buckets.of("b").take(1, 0.0)
    for number in range(2_000):
        buckets.of(f"host {number}")
    assert len(buckets._hosts) <= 1_024
    assert buckets.of("a").take(1, 0.0), "as new"
