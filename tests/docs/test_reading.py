"""How documents are read, and what counts as what they show."""

import pytest

from tests.docs.reading import Command, File, Meanwhile, Shown, matches, read

PAGE = """\
```yaml set.yaml
kind: X
```
<!-- meanwhile: scratch disc/volume -->
```console
$ hub-export list set.yaml \\
>     --explain
one
…
$ false
[exit status 1]
```
```text needs a drive
burn
```
```
picture
```
<!-- site: {"release": "4.3"} -->
"""


def test_a_page_is_what_a_person_does(tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    page = read(tmp_path / "page.md")
    assert page.site == {"release": "4.3"}
    assert page.steps == (
        File(1, "set.yaml", "kind: X\n"),
        Meanwhile(4, ("scratch", "disc/volume")),
        Command(6, "hub-export list set.yaml \\\n    --explain", ("one", "…")),
        Command(10, "false", ("[exit status 1]",)),
    )
    assert page.shown == (Shown(13, "text", "needs a drive"), Shown(16, "", ""))


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ([], ["anything"], True),
        ([], ["[exit status 1]"], False),
        (["…"], [], True),
        (["…"], ["a", "b"], True),
        (["…"], ["a", "[exit status 1]"], False),
        (["…", "[exit status 1]"], ["a", "[exit status 1]"], True),
        (["…", "[exit status 1]"], ["a", "[exit status 2]"], False),
        (["a", "…", "b"], ["a", "b"], True),
        (["a", "…", "b"], ["a", "x", "b", "c"], False),
        (["took … s"], ["took 17 s"], True),
        (["took … s"], ["took 17 m"], False),
        (["a.b"], ["axb"], False),
    ],
)
def test_what_is_shown_is_what_is_printed(expected, printed, same):
    assert matches(tuple(expected), printed) is same
