"""The report of `prm reproduce`: a page that stands alone, and the same tables in Markdown."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
from browser import CHROMIUM, probed
from page import Page
from reproduced import (
    EVIL,
    F1,
    SHOWN,
    TURNED,
    best_of_n,
    claim,
    figure,
    judge,
    results,
    row,
    search,
)

from prm.reproduce import page, plots, tables
from prm.reproduce.figure import Results
from universalbench.report.plots import COLOURS


@pytest.fixture(scope="module")
def made() -> Results:
    return results(judge(), best_of_n(), search())


@pytest.fixture(scope="module")
def text(made: Results) -> str:
    return page.render(made)


def rows_of(text: str) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in Page(text).rows]


# ── the page ─────────────────────────────────────────────────────────────────────────────────


def test_the_page_is_sound_and_stands_alone(text: str) -> None:
    found = Page(text)
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert found.tags.count("h1") == 1
    targets = re.findall(r"\b(?:src|href|url\()[=(]?[\"']?([^\"')\s>]+)", text)
    assert {target[0] for target in targets} == {"#"}
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in targets} <= set(ids)
    assert "@import" not in text


def test_a_reader_who_does_not_see_finds_everything(text: str) -> None:
    found = Page(text)
    assert found.tags.count("table") == found.tags.count("caption") == 5
    assert all("scope=" in header for header in re.findall(r"<th[ >][^>]*", text))
    drawn = len(re.findall(r"<svg class=\"plot\"", text))
    words = re.findall(
        r"<div role=\"img\" aria-label=\"([^\"]{20,})\">\s*<svg class=\"plot\"", text
    )
    assert len(words) == drawn > 8
    assert len(re.findall("<svg", text)) == len(re.findall(r"<svg[^>]*aria-hidden=\"true\"", text))
    levels = [int(tag[1]) for tag in found.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    regions = re.findall(r"<div class=\"scroll\"[^>]*>", text)
    assert all('tabindex="0"' in tag and 'aria-label="' in tag for tag in regions)
    said = f"{F1}, strategies. p0 alone: 0.800 [0.780, 0.820], the paper&#39;s 0.769; p1 alone: "
    assert any(one.startswith(said) for one in words)
    assert any("PRM at 8: 0.480 [0.460, 0.500]; PRM at 16:" in one for one in words)
    assert any("reasoning beats lists: −0.030 [−0.040, −0.020], fails" in one for one in words)


def test_texts_stay_texts(text: str) -> None:
    assert EVIL in Page(text).text
    assert SHOWN in Page(text).text
    assert TURNED not in text
    assert "<script" not in text
    assert re.search(r"<text [^>]*>.*\$x_1\$ \| \*y\*</text>", text)  # in a drawing, too
    assert "<tspan" not in text


def test_the_summary_has_every_claim_with_a_sign_and_words(made: Results, text: str) -> None:
    lines = rows_of(text)
    assert lines[0] == [
        "claim", "verdict", "difference", "seed 11 · 12 · 13", "paper", "figure",
    ]  # fmt: skip
    assert lines[1:5] == [
        [f"soft labels beat the majority {EVIL} {F1}", "✓ holds", "+0.020 [+0.010, +0.030]",
         "+0.019 · +0.020 · +0.021", ".800 against .765", "judge"],
        [f"reasoning beats lists {F1}", "✗ fails", "−0.030 [−0.040, −0.020]",
         "−0.031 · −0.030 · −0.029", "–", "judge"],
        ["reasoning beats lists AUROC of wrong steps", "○ not shown", "+0.001 [−0.009, +0.011]",
         "0.000 · +0.001 · +0.002", "–", "judge"],
        ["the PRM's best of 8 beats pass@1 right answers", "✓ holds", "+0.200 [+0.190, +0.210]",
         "+0.199 · +0.200 · +0.201", "–", "best_of_n"],
    ]  # fmt: skip
    assert "Of 4 claims 2 hold here, 1 are not shown either way, and 1 fail." in Page(text).text
    assert text.index("Of 4 claims") < text.index("<table") < text.index('<h2 id="judge">')


def test_what_does_not_hold_heads_a_figure(text: str) -> None:
    part = text[text.index('<h2 id="judge">') :]
    outcomes = re.findall(r"<li><b class=\"([\w-]+)\">(.*?)</b> (.*?)</li>", part)[:3]
    assert [(kind, sign) for kind, sign, _ in outcomes] == [
        ("fails", "✗ fails"),
        ("not-shown", "○ not shown"),
        ("holds", "✓ holds"),
    ]
    assert outcomes[0][2] == f"reasoning beats lists ({F1})"


def test_every_number_is_in_a_table(made: Results, text: str) -> None:
    lines = rows_of(text)
    for one in made.figures:
        for own in one.rows:
            value = tables.estimated(own.value)
            wanted = f"{value.text} {value.small}".strip()
            name = f"{own.name} ★" if own.headline else own.name
            assert any(line[:3] == [name, own.metric, wanted] for line in lines), own
    none = ["none", "AUROC of wrong steps", "– no wrong step", "– · – · –", *4 * ["–"]]
    assert none in lines
    p0 = next(line for line in lines if line[0] == "p0 alone")
    assert p0[3:] == ["0.790 · 0.800 · 0.810", "strategies", "–", "400,000", "0.769"]
    tokens = next(line for line in lines if line[0] == "tokens a problem")
    assert tokens[2] == "12,346 [12,046, 12,646]"
    head = next(line for line in lines if line[:1] == ["what"])
    assert head[-1] == "paper (other model, other data)"


def test_a_figure_says_what_it_is_of(text: str) -> None:
    shown = Page(text).text
    for words in (
        "3 seeds (11, 12, 13), 2,016 solutions of 504 problems, all seeds together.",
        "95 % percentile bootstrap intervals over problems",
        "prm reproduce configs/reproduce/judge.yaml",
        "One layout. ",
        "hollow dots the seeds by themselves, a hollow diamond the paper (other model, other data)",
        "pool 168, train 400",
        "52 min",
    ):
        assert words in shown


def test_one_seed_is_no_plural() -> None:
    own = replace(judge(), solutions=1, problems=1, rows=(replace(row("r", 0.5), seeds=(0.5,)),))
    shown = Page(page.render(results(own, seeds=(4,)))).text
    assert "1 seed (4), 1 solution of 1 problem, " in shown
    assert "hollow dots" not in shown


def test_many_rows_are_folded(text: str) -> None:
    assert text.count("<details>") == 1
    assert "<summary>21 numbers</summary>" in text


def test_equal_results_give_equal_bytes(made: Results, text: str, tmp_path: Path) -> None:
    page.write(tmp_path, made)
    assert (tmp_path / "report.html").read_text() == text
    assert (tmp_path / "report.md").read_text() == page.text(made)


def test_results_without_claims_or_figures_have_a_page() -> None:
    assert "Of 0 claims 0 hold here" in Page(page.render(results())).text
    bare = page.render(results(figure("bare", [row("only", 0.5)])))
    assert "Differences in" not in bare
    assert page.text(results()).startswith("# The claims")


# ── drawings ─────────────────────────────────────────────────────────────────────────────────


def titles(text: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", text)


def test_rows_are_drawn_as_points_as_curves_and_over_tokens(text: str) -> None:
    aside = "; right of 0 speaks for the claim"
    assert titles(text) == [
        f"Differences in {F1}{aside}",
        f"Differences in AUROC of wrong steps{aside}",
        f"{F1}, strategies",
        f"{F1}, strategies, over tokens",
        f"{F1}, cut",
        "AUROC of wrong steps",
        f"Differences in right answers{aside}",
        "right answers, candidates",
        "right answers, problems",
        "right answers, problems, over tokens",
        "tokens",
    ]
    legends = re.findall(r"<ul class=\"legend\">(.*?)</ul>", text, re.DOTALL)
    named = [re.findall(r"</svg> (.*?)</li>", one) for one in legends]
    # A curve whose points have names of their own needs no legend; points over tokens do.
    assert named == [
        ["p0 alone", "p1 alone"],
        ["majority", "PRM", "oracle"],
        ["best of N", "beam"],
        ["best of N", "beam"],
    ]


def test_drawings_take_their_colours_and_fonts_from_the_page(text: str) -> None:
    for drawn in re.findall(r"<svg class=\"plot\".*?</svg>", text, re.DOTALL):
        assert not re.search(r"#[0-9a-f]{6}", drawn)
        assert "font-family" not in drawn
        assert "var(--s0)" in drawn


def test_24_series_can_be_told_apart() -> None:
    assert len({str(plots.swatch(number, joined=False)) for number in range(24)}) == 24
    assert len({str(plots.swatch(number, joined=True)) for number in range(24)}) == 24


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (1e-12, "0"), (-0.03, "−0.03"), (0.125, "0.125"), (64.0, "64"), (1000.0, "1000"),
     (15000.0, "15k"), (1.5e6, "1.5M"), (3e9, "3G"), (-12000.0, "−12k")],
)  # fmt: skip
def test_numbers_at_axes_are_short(value: float, shown: str) -> None:
    assert plots.short(value) == shown


@pytest.mark.parametrize(
    ("value", "shown", "signed"),
    [
        (None, "–", "–"),
        (0.0, "0.000", "0.000"),
        (-0.0004, "−0.000", "0.000"),
        (0.0004, "0.000", "0.000"),
        (0.5, "0.500", "+0.500"),
        (-0.5, "−0.500", "−0.500"),
        (12.34, "12.3", "+12.3"),
        (-1234.5, "−1,234", "−1,234"),
    ],
)
def test_numbers_in_tables(value: float | None, shown: str, signed: str) -> None:
    assert tables.number(value) == shown
    assert tables.signed(value) == signed


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────


def test_markdown_has_the_same_tables(made: Results) -> None:
    text = page.text(made)
    lines = text.splitlines()
    assert lines[0] == "# The claims of the method, measured again"
    assert lines[2] == "Of 4 claims 2 hold here, 1 are not shown either way, and 1 fail."
    assert "<script" not in text
    assert sum(line.startswith("| ") for line in lines) == 5 * 2 + 4 + 8 + 21 + 7 + 5
    assert "Does not hold here: reasoning beats lists (F1 (mean of right and wrong steps))" in text
    assert "`prm reproduce configs/reproduce/judge.yaml`" in text
    assert "| ✗ fails | −0.030 \\[−0.040, −0.020\\] |" in text
    for table in re.findall(r"(?:^\| .*\n)+", text, re.MULTILINE):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(bars) == 1


# ── in a browser ─────────────────────────────────────────────────────────────────────────────


def colours(text: str, dark: bool) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    assert len(blocks) == 2
    return dict(re.findall(r"--([\w]+): (#[0-9a-f]{3,6})", blocks[dark]))


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_read(text: str, dark: bool) -> None:
    known = colours(text, dark)

    def brightness(name: str) -> float:
        code = known[name].lstrip("#")
        code = "".join(2 * letter for letter in code) if len(code) == 3 else code
        parts = [int(code[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        high, low = sorted((brightness(one), brightness(other)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for name in ("ink", "soft", "bar", "right", "wrong"):
        assert contrast(name, "paper") >= 4.5, name
    assert contrast("ink", "raised") >= 4.5
    for number in range(COLOURS):
        assert contrast(f"s{number}", "paper") >= 3, number


PROBE = """
<script>
addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, width = frame.clientWidth;
    const all = selector => [...page.querySelectorAll(selector)];
    all("details").forEach(part => { part.open = true; });
    const cut = all(".scroll").filter(part => part.scrollWidth > part.clientWidth);
    const line = page.querySelector(".plot path[style*='--s0']");
    found[width] = {
      wide: page.documentElement.scrollWidth,
      outside: all("h1, h2, p, li, figure, summary, .plot, .plot text")
        .filter(part => part.getBoundingClientRect().right > width + 1)
        .map(part => part.tagName + " " + part.textContent.slice(0, 60)),
      plots: all(".plot").map(part => part.getBoundingClientRect().width),
      letters: all(".plot text").map(part => part.getBoundingClientRect().height),
      cut: cut.length,
      reachable: cut.every(part => part.tabIndex === 0),
      line: frame.contentWindow.getComputedStyle(line).stroke,
      verdict: all("td.holds, td.fails, td.not-shown")
        .map(part => part.getBoundingClientRect().height < 60),
    };
  }
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(found))));
  document.body.append(out);
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_fits_narrow_and_wide_windows(tmp_path: Path) -> None:
    long = "a claim in more words than fit beside the drawing of its difference, " + 40 * "x"
    made = results(judge(), best_of_n(), search(), figure("long", [row(long, 0.5, group=long)],
                                                          [claim(long, 0.1, long)]))  # fmt: skip
    text = page.render(made)
    widths = probed(text, PROBE, tmp_path)
    assert set(widths) == {"400", "1400"}
    for width, found in widths.items():
        assert found["wide"] <= int(width)
        assert found["outside"] == []
        assert found["reachable"]
        assert min(found["plots"]) > 250
        assert min(found["letters"]) > 9  # pixels: still to be read
        assert found["line"] == "rgb(37, 102, 173)"  # the page's variable reaches the drawing
    assert widths["400"]["cut"] >= 4  # wide tables scroll inside
