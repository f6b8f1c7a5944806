import re

import msgspec
import pytest

from common.serialization import (
    MAX_DOCUMENTS,
    MAX_NODES,
    MAX_PLACED_NODES,
    DocumentError,
    convert,
    decode_json,
    dump_yaml,
    json_parts,
    load_placed_yaml,
    load_yaml_documents,
    pretty_json,
)
from tests.samples import more
from tests.spent import spent


def documents(text):
    return list(load_yaml_documents(text, "file"))


def test_dates_stay_text_and_empty_documents_are_skipped():
    assert documents("a: 2024-01-02\nb: 2024-01-02T03:04:05Z\n---\n---\nc: [1, 1.5, yes, null]\n") == [
        {"a": "2024-01-02", "b": "2024-01-02T03:04:05Z"},
        {"c": [1, 1.5, True, None]},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "file:2:1: not YAML: duplicate key 'a'"),
        ("a: [1\n", "file:2:1: not YAML"),
        ("? [1, 2]\n: x\n", "file:1:3: not YAML: a key must be text"),
        ("a: !!int os.system\n", "file:1:4: not YAML"),
        ("a: 1\nb: .inf\n", "file:2:4: not YAML: JSON has no infinity"),
        ("? null\n: x\n", "file:1:3: not YAML: a key must be text"),
        ("a: \x00\n", "file: not YAML"),
        ("a: \ud800\n", "file: not YAML"),
        ("a: " + "[" * 6000, "nested deeper than 200"),
        ("a: 1\n---\nb: " + "[" * 6000, "nested deeper than 200"),
        ("a: 1\nb: " + "[" * 3000 + "]" * 3000, "nested deeper than 200"),
        ("\n".join(" " * level + "a:" for level in range(1500)), "nested deeper than 200"),
        ("a: [" + "[]," * 3000 + "\n---\nb: [" + "[]," * 3000, "file:2:1: not YAML"),
        ("a: &a [*a]\n", "aliases stand for more than"),
    ],
)
def test_errors_have_line_and_column(text, message):
    with pytest.raises(DocumentError, match=None) as caught:
        documents(text)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "value",
    [
        "!!int ''",
        "!!int 0b",
        "!!float .",
        "!!bool zz",
        "!!timestamp zz",
        "!!timestamp 2020-13-45",
        "!!binary é",
        "!!binary _w==",
        "1" * 401,
        "0x" + "f" * 100_000,
        "0" + "7" * 500,
        "0b" + "1" * 1500,
        "!!int 1:59",
        "!!float 1:59.5",
    ],
)
@pytest.mark.parametrize("read", [documents, lambda text: load_placed_yaml(text, "file")])
def test_a_value_that_its_tag_does_not_allow_is_an_error_with_its_line(read, value):
    with pytest.raises(DocumentError, match=r"^file:2(:\d+)?: "):
        read(f"a: 1\nb: {value}\n")


def test_scalars_are_those_of_go_yaml_where_kubernetes_says_so():
    """prometheus-operator#4955: a plain `=` is text for sigs.k8s.io/yaml, and PyYAML gives it a type of its own."""
    assert documents("enum: ['!=', =, =~, <<]\n=: =\n? 1\n: x\n? yes\n: z\n") == [
        {"enum": ["!=", "=", "=~", "<<"], "=": "=", "1": "x", "true": "z"}
    ]
    assert load_placed_yaml("enum: ['!=', =]", "file").plain() == {"enum": ["!=", "="]}


def test_numbers_of_base_60_are_text():
    """sigs.k8s.io/yaml has none (goyaml.v2, resolve.go); PyYAML takes quadratic time for them."""
    assert documents("a: 1:59:59\nb: -1:59.5\nc: 1:59\n1:30: d\ne: [12, -0x1F, 0b11, 017, 1_0, 1.5e+3, .5]\n") == [
        {"a": "1:59:59", "b": "-1:59.5", "c": "1:59", "1:30": "d", "e": [12, -31, 3, 15, 10, 1500.0, 0.5]}
    ]
    long = "1" + ":59" * 100_000
    for read in (documents, lambda text: load_placed_yaml(text, "file")):
        assert spent(lambda read=read: read(f"a: {long}\nb: {long}.5\n")).cpu < 1  # PyYAML: 4 s
    assert documents(f"a: {long}\n") == [{"a": long}]


DENSE = [
    "a: [" + "a," * 200_000 + "]",
    "- - a\n" * 150_000,
    *more(
        [
            "{" + "".join(f"{n}," for n in range(110_000)) + "}",
            "a: [" + "b: c," * 70_000 + "]",
            "- -\n" * 150_000,
            "a:\n" + "  ? ? a\n" * 110_000,
            "a: 1\n---\n" * 100 + "- - a\n" * 150_000,
            ("\ufeffa: [" + "a," * 210_000 + "]").encode("utf-16-le"),
            "- - a\r" * 150_000,
        ]
    ),
]


@pytest.mark.parametrize("text", DENSE)
def test_a_document_of_too_many_values_is_refused_before_it_is_loaded(text):
    """PyYAML takes about a kilobyte for a node, of which `a,` is one; without anchors nothing was counted."""
    took = spent(lambda: documents(text))
    assert took.error.startswith("DocumentError: file:")
    assert f"more than {MAX_NODES} values" in took.error
    assert took.memory < 32 << 20


@pytest.mark.parametrize("end", ["\n", *more(["\r", "\u2028"])])
@pytest.mark.parametrize("encoding", ["utf-8", *more(["utf-16", "utf-16-be"])])
def test_directives_are_bounded(encoding, end):
    """libyaml, yaml_parser_append_tag_directive: each is compared with all before it."""

    def text(count):
        lines = "".join(f"%TAG !{number:x}! x{end}" for number in range(count))
        mark = "\ufeff" if encoding == "utf-16-be" else ""
        return f"{mark}{lines}---{end}a: b{end}".encode(encoding)

    assert documents(text(1_000)) == [{"a": "b"}]
    took = spent(lambda: documents(text(60_000)))
    assert "more than 1000 %TAG directives" in took.error
    assert took.cpu < 1  # libyaml: 5 s


@pytest.mark.parametrize("encoding", ["utf-8", *more(["utf-16"])])
def test_empty_documents_are_bounded(encoding):
    assert documents(("---\n" * 2_000 + "a: b\n").encode(encoding)) == [{"a": "b"}]
    took = spent(lambda: documents(("---\n" * (MAX_DOCUMENTS + 1)).encode(encoding)))
    assert f"more than {MAX_DOCUMENTS} documents" in took.error
    assert took.cpu < 0.5  # to read them takes 1 s


def test_signs_in_text_are_no_documents():
    """A certificate has four times three hyphens."""
    assert documents("a: |\n" + "  -----BEGIN CERTIFICATE-----\n" * 200_000) == [
        {"a": "-----BEGIN CERTIFICATE-----\n" * 200_000}
    ]


def test_blanks_cost_no_more_than_other_bytes():
    took = spent(lambda: documents(" " * (28 << 20)))
    assert took.error == ""
    assert took.cpu < 1  # for 40 MiB, the look for anchors alone took 1.1 s, before it began at their sign


def test_values_are_bounded_by_the_size_of_the_file():
    """Documents of less than the limit each; real files have 15 bytes and more for a node."""
    text = ("a: [" + "a," * 100_000 + "]\n---\n") * 3
    with pytest.raises(DocumentError, match=r"^file:\d+: more than \d+ values, which no real file of its size has"):
        documents(text)


def test_as_many_values_as_allowed_are_read():
    inside = MAX_NODES - 3  # the mapping, its key and the list
    assert len(documents("a: [" + "a," * inside + "]")[0]["a"]) == inside
    with pytest.raises(DocumentError, match=f"file:1: a document of more than {MAX_NODES} values"):
        documents("a: [" + "a," * (inside + 1) + "]")


def test_tags_give_values_of_json():
    text = "a: !!binary aGVsbG8=\nb: !!timestamp 2024-01-02\nc: !!set {x, z}\nd: !!omap [x: 1]\ne: !!int '7'\nf: !!str 7\n"
    assert documents(text) == [
        {"a": "hello", "b": "2024-01-02", "c": {"x": None, "z": None}, "d": [{"x": 1}], "e": 7, "f": "7"}
    ]


def test_equal_keys_are_equal_as_json():
    with pytest.raises(DocumentError, match="duplicate key '1'"):
        documents("1: a\n'1': b\n")
    assert list(load_yaml_documents("true: a\n'true': b\nc: 1\nc: 2\n", "file", forgiving=True)) == [{"true": "b", "c": 2}]


def test_brackets_are_counted_for_each_document():
    """Catalogs have thousands of them in the JSON of their examples, and only what nests does harm."""
    text = "\n---\n".join(["a: '" + "[{}]" * 1500 + "'"] * 3)
    assert documents(text) == [{"a": "[{}]" * 1500}] * 3


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_bytes_of_a_marker_in_other_encodings_are_no_marker(encoding):
    """Characters of UTF-16 whose bytes are a line of three dashes: the brackets around them are still one document's."""
    false = {"utf-16-le": "\u2d0a\u2d2d\u2d20", "utf-16-be": "\u0a2d\u2d2d\u202d"}[encoding]
    text = "\ufeffa: " + ("[" * 1000 + f'"{false}",') * 200
    assert b"\n--- " in text.encode(encoding) or b"\n---\x20" in text.encode(encoding)
    with pytest.raises(DocumentError, match="nested deeper than 200"):
        documents(text.encode(encoding))


def test_aliases_are_bounded():
    rows = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    rows += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 4)]
    assert documents("\n".join(rows))[0]["a1"][0] == [1] * 10
    rows += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(4, 12)]
    for line_break in ("\x85", "\u2028", "\u2029"):  # YAML 1.1, 4.2
        flow = ",".join(row.partition(": ")[2] for row in rows).replace("&", f"{line_break}&").replace("*", f"{line_break}*")
        with pytest.raises(DocumentError, match="aliases stand for more than 100000 values"):
            documents(f"[{flow}]")
    for encoding in ("utf-8", "utf-16", "utf-16-le", "utf-16-be"):
        mark = "\ufeff" if encoding != "utf-16" else ""  # as libyaml wants it
        with pytest.raises(DocumentError, match="aliases stand for more than 100000 values"):
            documents((mark + "\n".join(rows)).encode(encoding))


@pytest.mark.parametrize("read", [documents, lambda text: [load_placed_yaml(text, "file").plain()]])
def test_depth_and_digits_at_their_limits_and_beyond(read):
    deep = "[" * 199 + "1" + "]" * 199  # within the mapping
    assert read(f"a: {deep}")
    assert read(f"a: {deep}\nb: {deep}\n")
    with pytest.raises(DocumentError, match="nested deeper than 200"):
        read(f"a: [{deep}]")
    digits = "1" * 309
    assert read(f"a: {digits}") == [{"a": float(digits)}]
    with pytest.raises(DocumentError, match="a number beyond the range of a double"):
        read(f"a: {digits}1")


@pytest.mark.more
def test_values_of_an_alias_at_their_limit_and_beyond():
    values = ",".join(["1"] * 99_999)  # and their list
    assert load_placed_yaml(f"a: &a [{values}]\nb: *a\n", "file")
    with pytest.raises(DocumentError, match="aliases stand for more than 100000 values"):
        load_placed_yaml(f"a: &a [{values},1]\nb: *a\n", "file")


@pytest.mark.more
def test_configuration_at_its_limit_and_beyond():
    inside = MAX_PLACED_NODES - 3  # the mapping, its key and the list
    assert load_placed_yaml("a: [" + "a long name," * inside + "]", "file")
    with pytest.raises(DocumentError, match=f"a document of more than {MAX_PLACED_NODES} values"):
        load_placed_yaml("a: [" + "a long name," * (inside + 1) + "]", "file")


def test_a_placed_document_has_lines():
    placed = load_placed_yaml("a:\n- b: 1\n- c\n", "file")
    assert placed.plain() == {"a": [{"b": 1}, "c"]}
    assert [child.line for child in placed.value["a"].value] == [2, 3]
    assert load_placed_yaml("", "file").value is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "file:3"),
        ("a: [\n", "file:2: not YAML"),
        ("a: 1\nb: &x\n  c: *x\n", "file:3: its aliases stand for more than"),
        ("&a [x]: 1\n", "file:1: a key must be text"),
        ("a: &x [1]\nb:\n  <<: *x\n", "file:3: `<<` takes the fields of a mapping"),
        ("1: x\n", "file:1"),
        ("a: 1\n---\nb: 2\n", "file:2"),
        ("a: \x00\n", "file: not YAML"),
        ("a: \ud800\n", "file: not YAML"),
        ("a: " + "[" * 300 + "]" * 300, "nested deeper than 200"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested deeper than 200"),
    ],
)
def test_configuration_is_read_strictly(text, message):
    with pytest.raises(DocumentError) as caught:
        load_placed_yaml(text, "file")
    assert message in caught.value.message


def test_aliases_and_merge_keys_are_written_out_with_the_lines_of_their_values():
    """yaml.org/type/merge.html: the keys of the mapping itself count, then those of the first mapping that is merged."""
    text = "base: &base\n  a: 1\n  b: 2\nother: &other {b: 3, c: 4}\nx:\n  <<: [*base, *other]\n  a: 5\nz: [*base, *base]\n"
    placed = load_placed_yaml(text, "file")
    assert placed.plain()["x"] == {"a": 5, "b": 2, "c": 4}
    assert placed.plain()["z"] == [{"a": 1, "b": 2}] * 2
    assert [placed.value["x"].value[name].line for name in "abc"] == [7, 3, 4]


@pytest.mark.parametrize("encoding", ["utf-8", *more(["utf-16"])])
def test_aliases_of_a_configuration_are_bounded(encoding):
    rows = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    rows += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    took = spent(lambda: load_placed_yaml("\n".join(rows).encode(encoding), "file"))
    assert re.match(
        r"DocumentError: file:\d+: (its aliases stand for more than 100000|a document of more than 500000) values", took.error
    )


@pytest.mark.parametrize("text", ["a: &a\n- *a\n", "a: &a {b: {c: *a}}\n", "a: &a\n  <<: *a\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_value_within_itself_is_an_error_with_its_line(text, encoding):
    with pytest.raises(DocumentError, match=r"file:\d: (an alias within its own anchor|its aliases stand for)"):
        load_placed_yaml(text.encode(encoding), "file")


class Kind(msgspec.Struct):
    name: str


def test_typed_values_and_their_errors():
    assert convert({"name": "x"}, Kind, "file") == Kind("x")
    assert decode_json(b'{"name": "x"}', msgspec.json.Decoder(Kind), "file") == Kind("x")
    with pytest.raises(DocumentError, match=r"file: Expected `str`, got `int` - at `\$.name`"):
        convert({"name": 1}, Kind, "file")
    with pytest.raises(DocumentError, match="file: "):
        decode_json(b"{", msgspec.json.Decoder(Kind), "file")


def test_text_that_is_written_stays_text_on_the_cluster():
    """kubernetes-sigs/yaml, goyaml.v2/resolve.go: a label `y` or a digest `12e45` without quotes is a boolean or a number."""
    texts = [
        "y",
        "N",
        "yes",
        "off",
        "true",
        "~",
        "null",
        ".inf",
        ".nan",
        "1",
        "017",
        "08",
        "0o17",
        "0B1",
        "0x1F",
        "1_0",
        ".5_0",
        "1e3",
        "12e45",
        "+1",
        "1:30",
        "2001-12-14",
        "=",
        "<<",
        "!a",
        "&a",
        "*a",
        "%a",
        "@a",
    ]
    texts += ["", "a: b", "- a", "#", "4.12.0", "v1"]
    written = dump_yaml(dict.fromkeys(texts, texts))
    assert documents(written) == [dict.fromkeys(texts, texts)]
    assert dump_yaml({"a": "4.12.0", "b": "n", "y": "1e3"}) == "a: 4.12.0\nb: 'n'\n'y': '1e3'\n"


@pytest.mark.parametrize("count", [0, 1, 249, 250, 251, 500, 501])
def test_json_in_parts_is_that_of_pretty_json(count):
    """Long lists and mappings at any depth, and iterators, which become lists."""
    entries = [{"b": number, "a": ["x", {"z": []}], "text": 'ä"\n\t\\\x01{[,'} for number in range(count)]
    mapping = {f"key {number}": {} if number % 2 else [number] for number in range(count)}
    document = {"z": entries, "m": mapping, "a": {"deep": {"list": entries, "b": True}, "none": None}, "empty": [], "map": {}}
    lazy = {**document, "z": iter(entries), "a": {"deep": {"list": (each for each in entries), "b": True}, "none": None}}
    assert b"".join(json_parts(document)) == b"".join(json_parts(lazy)) == pretty_json(document)
    assert max(map(len, json_parts(document))) < 100_000


def test_output_is_stable():
    shared = {"x": 1}
    assert dump_yaml({"b": shared, "a": shared}) == "b:\n  x: 1\na:\n  x: 1\n"
    assert pretty_json({"b": 1, "a": "ü"}) == '{\n  "a": "ü",\n  "b": 1\n}\n'.encode()


@pytest.mark.parametrize(
    "text", ["a: 1\n", "---\na: 1\n...\n---\n", "---\n---\na: 1\n", "# x\n---\na: 1\n--- # end\n", "a: 1\n---\n\n---\n"]
)
def test_empty_documents_of_a_configuration_file_count_for_nothing(text):
    assert load_placed_yaml(text, "f").plain() == {"a": 1}


@pytest.mark.parametrize(("text", "line"), [("a: 1\n---\nb: 2\n", 2), ("a: 1\n--- text\n", 2), ("a: 1\n---\n---\n\n- b\n", 3)])
def test_a_second_document_is_named(text, line):
    # go-yaml/yaml, decode.go (Unmarshal): the first document is read, and what follows is not looked at.
    with pytest.raises(DocumentError, match=rf"^f:{line}: a second document") as raised:
        load_placed_yaml(text, "f")
    assert "a file of its own" in raised.value.hint
