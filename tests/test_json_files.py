"""JSON from outside: what is taken, and what is refused in a sentence."""

import math

import pytest

from filmstrip.json_files import parse_json, parse_object, read_object, shown

REFUSED = {
    "{": "is not valid JSON",
    "": "is not valid JSON",
    "nul": "is not valid JSON",
    '{"a": 1, "a": 2}': "has the entry 'a' twice",
    '{"a": {"b": [{"c": 1, "c": 1}]}}': "has the entry 'c' twice",
    '{"a": NaN}': "has NaN for a value",
    '{"a": ' + "9" * 5000 + "}": "has a whole number of 5000 digits",
    '{"a": "\\ud800"}': "half of a character",
    "[" * 65 + "]" * 65: "is nested more than 64 levels deep",
    "[" * 100_000: "is nested more than 64 levels deep",
    '{"a":' * 100_000 + "1" + "}" * 100_000: "is nested more than 64 levels deep",
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_is_no_plain_json_is_refused_with_the_reason(text, reason):
    for given in (text, text.encode()):
        with pytest.raises(ValueError, match=reason) as error:
            parse_json(given)
        assert len(str(error.value)) < 150


def test_json_is_taken_as_python_and_published_files_write_it():
    assert parse_json('{"a": [1, 2.5, null, true, "\\ud83d\\ude00"], "b": {}}') == {
        "a": [1, 2.5, None, True, "😀"],
        "b": {},
    }
    assert parse_json("[" * 64 + "]" * 64)
    assert parse_json('{"lambda_min_clipped": -Infinity}')["lambda_min_clipped"] == -math.inf
    assert parse_json(f'{{"model_max_length": {int(1e30)}}}')["model_max_length"] == int(1e30)
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}, "as some editors save it"


def test_no_more_is_read_than_may_be_there(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("[" + "0," * 5000 + "0]")
    with pytest.raises(ValueError, match=r"config\.json is larger than the 1,000 bytes"):
        read_object(path, largest=1000)
    with pytest.raises(ValueError, match="has 2,000 bytes of JSON, where 1,000 are the most"):
        parse_object(" " * 2000, largest=1000)


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("3", "int"), ("null", "null")])
def test_a_file_holds_one_object(tmp_path, text, kind):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(
        ValueError, match=rf"a\.json must hold one JSON object, got {kind}; download or save it again\."
    ):
        read_object(tmp_path / "a.json")


def test_bytes_that_are_no_text_are_told(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff\xfe"}')
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON \(byte 7 is not UTF-8\)"):
        read_object(tmp_path / "a.json")


def test_a_value_is_shown_on_one_short_line():
    assert shown("a\nb") == r"'a\nb'" and shown([1, 2]) == "[1, 2]"
    assert len(shown("x" * 1000)) == 60 and shown(10**6000) == "a int"
    assert shown("\ud800").isascii()
