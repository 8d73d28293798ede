"""Why a run ended, in a sentence: without class names where the sentence is ours, with them where it is not."""

from workbench.engine.runs.postmortem import explain_exception


def test_a_sentence_of_ours_stands_alone() -> None:
    assert explain_exception("NothingTrainedError", "No trained tensor changed.", True).explanation \
        == "No trained tensor changed."
    assert explain_exception("KeyError", "'labels'").explanation == "KeyError: 'labels'"
    assert explain_exception("DataError", "a.jsonl:7: not JSON", True).cause == "data"
