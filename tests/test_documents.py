"""What the pages tell a reader to type runs."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "virtual_microscope.md"


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_of_the_virtual_microscope_s_page_run(number):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(examples) == 2
    names: dict[str, object] = {}
    exec(compile(examples[number], str(PAGE), "exec"), names)  # the page is ours
    image = names["image"] if number == 0 else names["sharp"]
    assert image.shape == ((512, 512) if number == 0 else (1024, 1024))
