"""The state machine's placeholders."""

import json

import pytest

from scripts.local_aws.deploy import DEFINITION_PATH, render_definition

VALUES = {"initialize_arn": "arn:i", "infer_arn": "arn:f", "summarize_arn": "arn:s"}


def test_a_placeholder_is_replaced_quotes_included() -> None:
    assert render_definition('{"a": "${n}", "b": "${arn}"}', {"n": 3, "arn": "x"}) == '{"a": 3, "b": "x"}'


def test_a_value_is_written_as_json() -> None:
    assert json.loads(render_definition('["${text}"]', {"text": 'a "quoted" \\ one'})) == ['a "quoted" \\ one']


@pytest.mark.parametrize("values", [{}, {"n": 1, "m": 2}], ids=["missing", "unknown"])
def test_values_that_do_not_match_the_placeholders_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(KeyError, match="without"):
        render_definition('["${n}"]', values)


def test_the_definition_of_the_repository_is_valid_json_before_and_after() -> None:
    text = DEFINITION_PATH.read_text()

    rendered = json.loads(render_definition(text, VALUES))

    assert json.loads(text).keys() == rendered.keys()
    assert rendered["States"]["Initialize"]["Parameters"]["FunctionName"] == "arn:i"
