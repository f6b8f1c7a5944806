"""YAML as sigs.k8s.io/yaml reads it: tables of scalars, keys and streams, written from the rules of its sources.

Sources: kubernetes-sigs/yaml, goyaml.v2/resolve.go, decode.go, scannerc.go, readerc.go and yaml.go; strconv of Go for numbers;
kubernetes/kubernetes, staging/src/k8s.io/apimachinery/pkg/util/yaml/decoder.go for streams. Differences, on purpose, are in
tables of their own.
"""

import codecs

import pytest

from common.go_yaml import text_of
from common.serialization import DocumentError, load_placed_yaml, load_yaml_documents

ERROR = object()
LINES = "\u0085\u2028\u2029"

# resolve.go, resolveMap.
WORDS = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys(
        [".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF"], ERROR
    ),
}
# Text: other spellings, no base 60, no timestamps, no type "value", merge keys that are no keys.
TEXTS = [
    "yEs",
    "oN",
    "tRUE",
    "nULL",
    "nil",
    "None",
    ".Nan",
    "nan",
    "NaN",
    "inf",
    "Infinity",
    "-inf",
    ".iNF",
    "+.nan",
    "-.nan",
    "yess",
    "Y1",
    "1:30",
    "1:59:59",
    "-1:59.5",
    "190:20:30",
    "20:03:20",
    "2001-12-14",
    "2001-12-14t21:59:43.10-05:00",
    "2001-12-14T21:59:43Z",
    "2001-1-1",
    "2001-13-45",
    "=",
    "=~",
    "=1",
    "<<",
    "<<a",
    "a<<",
    "09x",
    "0o8",
    "0o",
    "0b",
    "0b2",
    "-0b",
    "0x",
    "0xg",
    "0x1.8p1",
    "0x1p-2",
    "1p3",
    "+-1",
    "++1",
    "-+1",
    "+",
    "+.",
    "+e1",
    ".",
    "..",
    "...",
    "._5",
    ".5_",
    ".5__0",
    ".e3",
    "e3",
    "1e",
    "1e+",
    "1e+-",
    "1..2",
    "1.2.3",
    "_1",
    "__",
    "1%",
    "1/2",
    "1k",
    "10Gi",
    "1,000",
    "1h30m",
    "v1",
    "4.12.0",
    "-x",
    ":x",
    "?x",
    "a:b",
    "a#b",
    "0.1.2-3",
    "0x1F.5",
    "0b1.0",
    "-0b+1",
    "--1",
]
# strconv.ParseInt with base 0 and without `_`; then ParseUint, then `yamlStyleFloat`, then integers of any size.
NUMBERS = {
    "0": 0,
    "-0": 0,
    "+0": 0,
    "00": 0,
    "0_0": 0,
    "1": 1,
    "+1": 1,
    "-1": -1,
    "1_000": 1000,
    "1__0": 10,
    "1_": 1,
    "+_1": 1,
    "-_1": -1,
    "017": 15,
    "-017": -15,
    "0o17": 15,
    "0O17": 15,
    "+0o17": 15,
    "0_17": 15,
    "08": 8.0,
    "09": 9.0,
    "-08": -8.0,
    "0189": 189.0,
    "0b101": 5,
    "0B11": 3,
    "-0b11": -3,
    "+0b1": 1,
    "0b_1": 1,
    "0b+1": 1,
    "0b-1": -1,
    "0x1F": 31,
    "0X1f": 31,
    "-0x1F": -31,
    "0x_1": 1,
    "1.5": 1.5,
    "5.": 5.0,
    "5.e3": 5e3,
    ".5": 0.5,
    "+.5": 0.5,
    "-.5": -0.5,
    ".5e3": 500.0,
    ".5_0": 0.5,
    "1.5_0": 1.5,
    "1_000.5": 1000.5,
    "1e3": 1e3,
    "1E3": 1e3,
    "1e+3": 1e3,
    "1e-3": 1e-3,
    "+1e3": 1e3,
    "-1e3": -1e3,
    "1e1_0": 1e10,
    "00.5": 0.5,
    "00e1": 0.0,
    "-0.0": -0.0,
    "1.10": 1.1,
    "4.10": 4.1,
    "010.5": 10.5,
    "1e308": 1e308,
    "1e-400": 0.0,
    "1e21": 1e21,
    "1e400": "1e400",
    "-1e400": "-1e400",
    ".1e400": ".1e400",
    "1.8e308": "1.8e308",
    "1" * 400 + ".5": "1" * 400 + ".5",
    "9223372036854775807": 2**63 - 1,
    "9223372036854775808": 2**63,
    "18446744073709551615": 2**64 - 1,
    "18446744073709551616": 2.0**64,
    "-9223372036854775808": -(2**63),
    "-9223372036854775809": -(2.0**63),
    "+9223372036854775807": 2**63 - 1,
    "+9223372036854775808": 2.0**63,
    "123456789012345678901234567890": 123456789012345678901234567890.0,
    "0xffffffffffffffff": 2**64 - 1,
    "0x10000000000000000": 2.0**64,
    "+0x10000000000000000": "+0x10000000000000000",
    "-0xffffffffffffffff": "-0xffffffffffffffff",
    "0o2000000000000000000000": 2.0**64,
    "0b1" + "0" * 64: 2.0**64,
    "01777777777777777777777": 2**64 - 1,
    "02000000000000000000000": 2e21,
    "0777777777777777777777777": 777777777777777777777777.0,
}
# decode.go, scalar, and resolve.go, resolve: what a tag allows is of its kind, an integer also for !!float. Of unknown and local
# tags the text counts, and collections have no tags.
TAGGED = {
    "!!str 1": "1",
    "!!str ~": "~",
    "!!str": "",
    "!!str yes": "yes",
    "!!str 0x1": "0x1",
    "!!str [1]": [1],
    "!!str {a: 1}": {"a": 1},
    "!!int 1": 1,
    "!!int '7'": 7,
    "!!int 0x1F": 31,
    "!!int 1_0": 10,
    "!!int 1.0": ERROR,
    "!!int x": ERROR,
    "!!int ''": ERROR,
    "!!int ~": ERROR,
    "!!int yes": ERROR,
    "!!int 18446744073709551616": ERROR,
    "!!int 1e3": ERROR,
    "!!int 1:59": ERROR,
    "!!int [1]": [1],
    "!!float 1": 1.0,
    "!!float 1.5": 1.5,
    "!!float '.5'": 0.5,
    "!!float 017": 15.0,
    "!!float x": ERROR,
    "!!float ''": ERROR,
    "!!float 1e400": ERROR,
    "!!float .": ERROR,
    "!!float .inf": ERROR,
    "!!float 1:59.5": ERROR,
    "!!float 18446744073709551615": ERROR,
    "!!bool yes": True,
    "!!bool 'n'": False,
    "!!bool 1": ERROR,
    "!!bool x": ERROR,
    "!!bool ''": ERROR,
    "!!bool {a: b}": {"a": "b"},
    "!!null ~": None,
    "!!null ''": None,
    "!!null": None,
    "!!null x": ERROR,
    "!!null 0": ERROR,
    "!!null {a: b}": {"a": "b"},
    "!!timestamp 2001-12-14": "2001-12-14",
    "!!timestamp 2001-1-2T3:4:5.6Z": "2001-1-2T3:4:5.6Z",
    "!!timestamp x": ERROR,
    "!!timestamp 2001-12-14 21:59:43.10": "2001-12-14 21:59:43.10",
    "!!timestamp 2001-12-14 21:59:43 -5": ERROR,
    "!!timestamp 2001-02-30": ERROR,
    "!!timestamp 0000-02-29": "0000-02-29",
    "!!timestamp 2001-12-14T25:00:00Z": ERROR,
    "!!timestamp 2001-12-14T1:2:3": ERROR,
    "!!timestamp ''": ERROR,
    "!!timestamp 1": ERROR,
    "!!timestamp [1]": [1],
    "!!binary aGVsbG8=": "hello",
    '!!binary "aGVs\\nbG8="': "hello",
    "!!binary aGVsbG8": ERROR,
    "!!binary é": ERROR,
    "!!binary": "",
    "!!binary /w==": "\ufffd",
    "!!binary 4oI=": "\ufffd\ufffd",
    "!!binary YQ==YQ==": ERROR,
    "!!binary [x]": ["x"],
    "!foo 1": "1",
    "!foo": "",
    "!foo [1]": [1],
    "!foo {a: 1}": {"a": 1},
    "!!foo 1": "1",
    "!!python/object:os.system x": "x",
    "!<tag:yaml.org,2002:str> 1": "1",
    "!<tag:yaml.org,2002:int> 1": 1,
    "!<x> 1": "1",
    "!!merge <<": "<<",
    "!!value =": "=",
    "!!set {a, b}": {"a": None, "b": None},
    "!!omap [a: 1]": [{"a": 1}],
    "!!pairs [a: 1]": [{"a": 1}],
    "!!omap x": "x",
    "!!seq {a: 1}": {"a": 1},
    "! x": "x",
    "! [1]": [1],
    "! {a: 1}": {"a": 1},
    "!e!x 1": ERROR,
}
# yaml.go, convertToJSONableObject: floats by FormatFloat(…, 'g', -1, 32); null and integers beyond 63 bits are no keys. A date is
# text.
KEYS = {
    "a": "a",
    "'yes'": "yes",
    "yes": "true",
    "Y": "true",
    "n": "false",
    "off": "false",
    "True": "true",
    "'1'": "1",
    '"~"': "~",
    "1": "1",
    "+1": "1",
    "-1": "-1",
    "017": "15",
    "0x1F": "31",
    "1_000": "1000",
    "9223372036854775807": "9223372036854775807",
    "1.0": "1",
    "1.5": "1.5",
    "1.10": "1.1",
    "08": "8",
    "1e3": "1000",
    "1e6": "1e+06",
    "123456.5": "123456.5",
    "1234567.0": "1.234567e+06",
    "1e-4": "0.0001",
    "1e-5": "1e-05",
    "0.1234567890123": "0.12345679",
    "-0.0": "-0",
    "16777217.0": "1.6777216e+07",
    "1e22": "1e+22",
    ".inf": ".inf",
    "-.inf": "-.inf",
    ".nan": ".nan",
    "1e308": ".inf",
    "-1e308": "-.inf",
    "1e400": "1e400",
    "1e-400": "0",
    "~": ERROR,
    "null": ERROR,
    "? ''\n": "",
    "?\n": ERROR,
    "": ERROR,
    "9223372036854775808": ERROR,
    "0x10000000000000000": ERROR,
    "[1, 2]": ERROR,
    "{a: b}": ERROR,
    "1:30": "1:30",
    "2001-12-14": "2001-12-14",
    "=": "=",
    "'<<'": "<<",
    "!!str <<": "<<",
    "!!str 1": "1",
    "!!int '1'": "1",
    "!!float 1": "1",
    "!!null x": ERROR,
    "!foo 1": "1",
    "!!binary aGVsbG8=": "hello",
    "&a 1": "1",
}
# scannerc.go, parserc.go and readerc.go, which libyaml agrees with.
TREES = {
    "a:\n- b\n- - c\n  - d": {"a": ["b", ["c", "d"]]},
    "a: - b": ERROR,
    "-\ta": ERROR,
    "a:\tb\t# c": {"a": "b"},
    "\ta: b": ERROR,
    "a:\n\tb: 1": ERROR,
    'a: {\n\t"b":\t1\n}': {"a": {"b": 1}},
    "? a\n: b": {"a": "b"},
    "? a": {"a": None},
    "{? a : b, c}": {"a": "b", "c": None},
    "{a:1}": {"a:1": None},
    '{"a":1}': {"a": 1},
    "[a: 1, b]": [{"a": 1}, "b"],
    "[a:b, http://x:1/y]": ["a:b", "http://x:1/y"],
    "[a, b,]": ["a", "b"],
    "{a: 1,}": {"a": 1},
    "[,]": ERROR,
    "[a,,b]": ERROR,
    "a: x: y": ERROR,
    "a: x:y": {"a": "x:y"},
    "a: %x": ERROR,
    "a: @x": ERROR,
    "a: `x": ERROR,
    "a: *x": ERROR,
    "a: b#c #d": {"a": "b#c"},
    "a: 'it''s'": {"a": "it's"},
    "a: b\n  c": {"a": "b c"},
    "a: |\n  x  \n y": ERROR,
    "a: |\n  x  \n  y \t\n\n": {"a": "x  \ny \t\n"},
    "a: |+\n  b\n\n": {"a": "b\n\n"},
    "a: |-\n  b\n\n": {"a": "b"},
    "a: |2\n   b\n": {"a": " b\n"},
    "a: |0\n b": ERROR,
    "a: >\n  b\n  c\n\n  d\n    e\n": {"a": "b c\nd\n  e\n"},
    "a: |\n  \tb\n": ERROR,
    "a: b\u0085c: d": {"a": "b", "c": "d"},
    "a: b\u2028c: d": {"a": "b", "c": "d"},
    "a: b\rc: d\r": {"a": "b", "c": "d"},
    "a: b\r\nc: d\r\n": {"a": "b", "c": "d"},
    f"a: |\n  b{LINES[0]}  c{LINES[1]}  d{LINES[2]}  e\n": {"a": "b\nc\u2028d\u2029e\n"},
    "a: |\r\n  b\r\n  c\r\n": {"a": "b\nc\n"},
    "a: \x01": ERROR,
    "a: \x00": ERROR,
    "a: \x1b": ERROR,
    "a: \x7f": ERROR,
    "a: \ufffe": ERROR,
    "a: \u00a0x": {"a": "\u00a0x"},
    "a: 😀": {"a": "😀"},
    "a: \ufeffb": {"a": "\ufeffb"},
    '"\\x41\\u00e9\\U0001F600\\e\\_\\N\\0"': "Aé😀\x1b\xa0\x85\0",
    '"\\q"': ERROR,
    "'a\n\n  b'": "a\nb",
    "a: &x [1]\nb: *x": {"a": [1], "b": [1]},
    "a: &a [*a]": ERROR,
    "&a x: 1\nb: *a": {"x": 1, "b": "x"},
    "a: 1\n# c\n\t\nb: 2": ERROR,
    "a: 1\n# c\n  \nb: 2": {"a": 1, "b": 2},
    "%TAG ! tag:yaml.org,2002:\n---\na: !str 1": {"a": "1"},
    "%YAML 1.1\n---\na: 1": {"a": 1},
    "%YAML 2.0\n---\na: 1": ERROR,
    "%FOO x\n---\na": ERROR,
    "a" * 1100 + ": 1": ERROR,
    "a: 1\n b: 2": ERROR,
    "a: 'x' y": ERROR,
    "a: [": ERROR,
    "a: }": ERROR,
    "- a: 1\n  b: 2": [{"a": 1, "b": 2}],
}
# decode.go, merge: where the merge key is, over what stands before it; of several mappings the first counts.
MERGES = {
    "{<<: {a: 1}, b: 2}": {"a": 1, "b": 2},
    "{a: 1, <<: {a: 2}}": {"a": 2},
    "{<<: {a: 2}, a: 1}": {"a": 1},
    "{<<: [{a: 1}, {a: 2, b: 3}], c: 4}": {"a": 1, "b": 3, "c": 4},
    "[&x {a: {b: 1}}, {<<: *x, c: 2}]": [{"a": {"b": 1}}, {"a": {"b": 1}, "c": 2}],
    "{<<: {a: 1}, <<: {b: 2}}": {"a": 1, "b": 2},
    "{<<: {<<: {a: 1}}}": {"a": 1},
    "{!!merge <<: {a: 1}}": {"a": 1},
    "{'<<': {a: 1}}": {"<<": {"a": 1}},
    **dict.fromkeys(["<<: 1", "<<: ~", "<<: [1]", "<<: [[]]", "a: &a {<<: *a}"], ERROR),
    "<<: []": {},
    "<<: {}": {},
    "{a: 1, b: 2, a: 3}": {"a": 3, "b": 2},
}


def read(text, *, forgiving=True):
    try:
        return list(load_yaml_documents(text, "file", forgiving=forgiving))
    except DocumentError:
        return ERROR


def one(text):
    found = read(text)
    return found if found is ERROR else found[0] if found else None


def differing(table, document, wanted=lambda value: value):
    """Return the rows of a table that are read otherwise. Numbers are compared with their type."""
    found = {text: one(document(text)) for text in table}
    return {text: value for text, value in found.items() if repr(value) != repr(wanted(table[text]))}


def a_value(value):
    return value if value is ERROR else {"a": value}


@pytest.mark.parametrize(
    "table", [WORDS, {text: text for text in TEXTS}, NUMBERS, TAGGED], ids=["words", "texts", "numbers", "tags"]
)
def test_scalars(table):
    assert not differing(table, lambda text: f"a: {text}\n", a_value)
    if table is not TAGGED:
        quoted = {text: {"a": text} for text in table}
        assert not differing(quoted, lambda text: f'a: "{text}"\n')


def test_keys():
    assert not differing(KEYS, lambda key: f"{key}: v\n", lambda key: key if key is ERROR else {key: "v"})


@pytest.mark.parametrize("table", [TREES, MERGES], ids=["trees", "merges"])
def test_collections(table):
    assert not differing(table, lambda text: text)


def test_numbers_beyond_doubles_are_no_values_of_json():
    """Kept by goyaml.v2 as big.Int, and refused by the readers of the JSON that is made of it."""
    for text in ["1" * 310, "0x" + "f" * 300, "0" + "7" * 400, "0b" + "1" * 1025]:
        with pytest.raises(
            DocumentError, match=r"^file:2:4: not YAML: a number beyond the range of a double; put it in quotes$"
        ):
            list(load_yaml_documents(f"b: 1\na: {text}\n", "file"))


# decoder.go: JSON by the first character, and one object after the other; else documents at lines of `---`, each parsed to its
# end, with the end of the last line added.
STREAMS = {
    "": [],
    "\n": [],
    "# c\n": [],
    "---\n---\n": [],
    "---\na: 1": [{"a": 1}],
    "a: 1\n---\nb: 2": [{"a": 1}, {"b": 2}],
    "# c\n---\na: 1\n--- # d\n---\nb: 2\n---\n": [{"a": 1}, {"b": 2}],
    "a: 1\n...\n---\nb: 2\n...\n": [{"a": 1}, {"b": 2}],
    "a: &x 1\n---\nb: &x 2\nc: *x": [{"a": 1}, {"b": 2, "c": 2}],
    "a: 1\n---\nb: *x": ERROR,
    "a: 1\n---\n[": ERROR,
    "a: |\n  b": [{"a": "b\n"}],
    "a: >-\n  b": [{"a": "b"}],
    "a: |+\n  b\n\n---\nc: 1": [{"a": "b\n\n"}, {"c": 1}],
    '{"a": 1}': [{"a": 1}],
    '{"a": 1}{"b": 2}': [{"a": 1}, {"b": 2}],
    ' \n{"a": 1}\n\n{"b": 2}\n': [{"a": 1}, {"b": 2}],
    '{\n\t"a": [\n\t\t1\n\t]\n}': [{"a": [1]}],
    '{"a": "\\ud83d\\ude00\\/"}': [{"a": "😀/"}],
    '{"a": 1, "a": 2}': [{"a": 2}],
    " " * 4000 + '{"a":\t1}{"b": 2}': [{"a": 1}, {"b": 2}],
    '[{"a": 1}]': [[{"a": 1}]],
    '{"a": 1}{"b"': ERROR,
    '{"a": "b': ERROR,
    # YAML that begins as JSON does (kubernetes/kubernetes#130666).
    "{a: 1}\n": [{"a": 1}],
    '{"a": yes} # c\n': [{"a": True}],
    "{a: 1}\n---\n{b: 2}": [{"a": 1}, {"b": 2}],
    '{"a": 1}\n---\nb: 2': [{"a": 1}, {"b": 2}],
}
# Go reads the first document of these, or the first chunk, and drops the rest without a word: an error here, or all of it.
DROPPED = {
    **dict.fromkeys(["a: 1\n...\nb: 2", "a: 1\n...\n[", " a: 1\nb: 2", "[a]\n[b]"], ERROR),
    "a: 1\r---\rb: 2\r": [{"a": 1}, {"b": 2}],
    "%YAML 1.1\n---\na: 1": [{"a": 1}],
    "--- {a: 1}": [{"a": 1}],
    "--- |\n  b\n": ["b\n"],
    "%YAML 1.2\n---\na: 1": [{"a": 1}],
    '"\\/"': ["/"],
    "[&x [{a: 1}], {<<: *x}]": [[[{"a": 1}], {"a": 1}]],
}


@pytest.mark.parametrize("table", [STREAMS, DROPPED], ids=["as Go", "on purpose"])
def test_streams(table):
    assert {text: found for text in table if repr(found := read(text)) != repr(table[text])} == {}


MARKS = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


@pytest.mark.parametrize("encoding", MARKS)
def test_a_byte_order_mark(encoding):
    """readerc.go, yaml_parser_determine_encoding. Go reads the first object alone of JSON with a mark."""
    for text in ['{"a": "é"}\n{"b":\t2}\n', "a: é\n---\nb: 2\n", "a: é\n--- # c\n\ufeffb: 2\n"]:
        assert read(MARKS[encoding] + text.encode(encoding)) == [{"a": "é"}, {"b": 2}], text
    assert read(MARKS[encoding]) == []
    assert load_placed_yaml(MARKS[encoding] + "a: é\n".encode(encoding), "file").plain() == {"a": "é"}


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfea\x00:",
        b"\xff\xfe\x00\xd8",
        b"\xff\xfea",
        "a: é".encode("utf-16-le"),
        b"a: \xff",
        b"a: \xc0\x80",
        b"a: \xed\xa0\x80",
    ],
)
def test_bytes_that_are_no_text(raw):
    assert read(raw) is ERROR


def test_strict_reading():
    """As UnmarshalStrict, two equal keys are an error; merged ones give way to those of the mapping (yaml.org/type/merge.html)."""
    for text in ["a: 1\na: 2", "1: a\n'1': b", "yes: a\n'true': b", "{<<: {a: 1}, a: 2, a: 3}"]:
        assert read(text, forgiving=False) is ERROR, text
        assert read(text) is not ERROR
    for text in ["{<<: {a: 1}, a: 2}", "{a: 2, <<: {a: 1}}", "{<<: [{a: 2}, {a: 1}]}"]:
        assert read(text, forgiving=False) == [{"a": 2}], text


def test_a_number_in_the_place_of_text():
    """yaml.go: where a field is text, numbers and booleans become text; floats with the digits of 32 bits."""
    values = {
        "4.10": "4.1",
        "4.6": "4.6",
        "1": "1",
        "017": "15",
        "yes": "true",
        "n": "false",
        "1e6": "1e+06",
        "x": "x",
        "~": "",
    }
    assert {text: text_of(one(f"- {text}")[0]) for text in values} == values
    assert text_of(2**64 - 1) == "18446744073709551615"
