"""Conditions: lastTransitionTime tells when the status flipped, and nothing else moves it."""

from datetime import UTC, datetime, timedelta

from kubexen.api.conditions import (
    PENDING,
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    find,
    remove,
    set_condition,
)

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)


def starting(now: datetime = NOON) -> list[Condition]:
    return set_condition([], ConditionType.READY, False, Reason.STARTING, "Waits for xen1.", 1, now)


def test_a_new_condition_is_written_as_kubernetes_writes_it() -> None:
    assert [condition.to_dict() for condition in starting(NOON.replace(microsecond=999))] == [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Starting",
            "message": "Waits for xen1.",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
            "observedGeneration": 1,
        }
    ]


def test_a_flip_moves_the_time() -> None:
    ready = set_condition(starting(), "Ready", True, Reason.RUNNING, "", 1, LATER)
    assert (ready[0].is_true, ready[0].reason, ready[0].last_transition_time) == (True, "Running", LATER)


def test_a_new_reason_message_or_generation_does_not() -> None:
    (condition,) = set_condition(starting(), "Ready", False, Reason.CRASH_LOOP, "Crashed 3 times.", 2, LATER)
    assert (condition.reason, condition.message, condition.observed_generation) == ("CrashLoop", "Crashed 3 times.", 2)
    assert condition.last_transition_time == NOON


def test_the_same_again_is_equal_and_the_input_is_left_alone() -> None:
    before = starting()
    assert set_condition(before, "Ready", False, Reason.STARTING, "Waits for xen1.", 1, LATER) == before
    set_condition(before, "Ready", True, Reason.RUNNING, "", 1, LATER)
    assert before == starting()


def test_others_keep_their_place() -> None:
    both = set_condition(starting(), ConditionType.SCHEDULED, True, Reason.SCHEDULED, "", 1, NOON)
    assert [c.type for c in set_condition(both, "Ready", True, "Running", "", 1, LATER)] == ["Ready", "Scheduled"]


def test_the_default_flips_to_false_and_gets_a_time() -> None:
    (condition,) = set_condition([PENDING], "Ready", None, Reason.STARTING, "", 1, LATER)
    assert (condition.status, condition.last_transition_time.year) == (ConditionStatus.UNKNOWN, 1970)
    (condition,) = set_condition([PENDING], "Ready", False, Reason.STARTING, "", 1, LATER)
    assert condition.last_transition_time == LATER


def test_find_and_remove() -> None:
    conditions = starting()
    assert find(conditions, ConditionType.READY) is conditions[0]
    assert find(conditions, ConditionType.STALLED) is None
    assert remove(conditions, ConditionType.READY) == []
    assert remove(conditions, ConditionType.STALLED) == conditions
