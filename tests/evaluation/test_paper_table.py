"""Tables for papers and spreadsheets: bold, daggers, names that are no commands."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from palate.errors import PalateError
from palate.evaluation.paper_table import check_format, csv_table, escape_latex, latex_table
from palate.evaluation.saved import SavedDifference, SavedTable, parse_table


def figure(mean: float, width: float = 0.01) -> dict[str, Any]:
    return {"mean": mean, "low": mean - width, "high": mean + width, "by_seed": [mean]}


def difference(mean: float, p: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "p": p / 2, "p_holm": p}


def row(label: str, ndcg: float, gini: float, differences: dict[str, Any] | None = None) -> dict[str, Any]:
    metrics = {"ndcg@10": figure(ndcg), "ndcg@5": figure(0.01), "recall@10": figure(0.3), "hitrate@10": figure(0.3)}
    metrics["gini@10"] = {"mean": gini}
    return {"label": label, "seeds": [0], "metrics": metrics, "differences": differences or {}}


@pytest.fixture
def table() -> SavedTable:
    facts = {
        "name": "product (history excluded)",
        "protocol": "full",
        "split": "test",
        "cases": 1234,
        "dataset": {"name": "Beauty & Co_5", "fingerprint": "abc"},
        "base": "pop",
        "primary": "ndcg@10",
        "models": [
            row("pop", 0.1, 0.5),
            row("=cmd|' /C calc'!A0", 0.2, 0.9, {"ndcg@10": difference(0.1, 0.001), "recall@10": difference(0.0, 0.9)}),
            row(r"\input{secret}", 0.05, 0.7, {"ndcg@10": difference(-0.05, 0.04)}),
        ],
        "environment": {"commit": "f00\n\\evil"},
    }
    return parse_table(facts, "here")


def rows_of(text: str) -> list[list[str]]:
    lines = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    return [[cell.strip() for cell in line.strip().removesuffix("\\\\").split(" & ")] for line in lines]


def check_well_formed(text: str) -> None:
    """What TeX would stop at: environments, braces and dollars in pairs, and as many cells as columns."""
    for kind in ("table", "tabular"):
        assert text.count(rf"\begin{{{kind}}}") == text.count(rf"\end{{{kind}}}") == 1
    plain = re.sub(r"\\[{}&%$#_\\]", "", text)
    depth = [plain[:end].count("{") - plain[:end].count("}") for end in range(len(plain) + 1)]
    assert min(depth) == depth[-1] == 0
    assert plain.count("$") % 2 == 0
    columns = re.search(r"\\begin\{tabular\}\{(l?r+)\}", text)
    assert columns
    assert {len(cells) for cells in rows_of(text)} == {len(columns[1])}


def test_the_best_is_bold_and_significant_differences_have_daggers(table: SavedTable) -> None:
    text = latex_table(table)
    rows = rows_of(text)
    assert rows[0] == ["pop", "0.1000", "[0.0900, 0.1100]", r"\textbf{0.3000}", r"\textbf{0.5000}"]
    assert rows[1][1] == r"\textbf{0.2000}\rlap{$^{\dagger}$}"
    assert rows[2][1] == r"0.0500\rlap{$^{\ddagger}$}"
    assert r"$\dagger$: better, $\ddagger$: worse than pop" in text
    # A lower Gini is a catalogue that is used more evenly: the smallest is bold.
    assert [cells[4] for cells in rows] == [r"\textbf{0.5000}", "0.9000", "0.7000"]


def test_columns_are_the_metrics_of_the_primary_cut_off_each_once(table: SavedTable) -> None:
    header = latex_table(table).split(r"\toprule")[1].split("\\\\")[0]
    assert [cell.strip() for cell in header.split("&")] == [
        *("Model", "NDCG@10", r"95\% interval", "Recall@10", "Gini@10"),
    ]


def test_latex_is_well_formed_whatever_names_there_are(table: SavedTable) -> None:
    text = latex_table(table)
    assert r"Beauty \& Co\_5" in text
    assert r"\textbackslash{}input\{secret\}" in text
    assert r"\input" not in text
    assert r"\evil" not in text
    assert text.count("\n% ") == 0  # the comment is one line, at the top
    assert r"\label{tab:beauty-co-5-test}" in text
    check_well_formed(text)


@pytest.mark.parametrize("label", ["[1cm]knn", "*"])
def test_a_label_is_no_option_of_the_line_before(table: SavedTable, label: str) -> None:
    text = latex_table(
        table.model_copy(update={"models": [*table.models, table.models[0].model_copy(update={"label": label})]})
    )
    check_well_formed(text)
    assert rows_of(text)[3][0] == "{}" + label


def test_a_metric_that_some_rows_lack(table: SavedTable) -> None:
    first, second, third = table.models
    metrics = {name: one for name, one in second.metrics.items() if name != "hitrate@10"}
    changed = table.model_copy(update={"models": [first, second.model_copy(update={"metrics": metrics}), third]})
    assert "hitrate@10" in changed.shown_metrics()
    assert [cells[4] for cells in rows_of(latex_table(changed))] == [r"\textbf{0.3000}", "--", r"\textbf{0.3000}"]


def test_a_caption_and_a_label_of_ones_own(table: SavedTable) -> None:
    caption = r"What 5% of } \\ $users$ & {\catcode buy"
    text = latex_table(table, caption=f"{caption}.", label="tab:main_2.a")
    check_well_formed(text)
    assert r"\label{tab:main_2.a}" in text
    (line,) = re.findall(r"\\caption\{(.*)\}", text)
    assert line.startswith(f"{escape_latex(caption)}. The best figures are bold. $\\dagger$: better")
    assert "paired bootstrap over users and seeds, Holm-adjusted $p < 0.05$" in line
    assert "Beauty" not in line


def test_the_note_says_that_nothing_is_significant(table: SavedTable) -> None:
    first, second, _ = table.models
    unsure = second.model_copy(update={"differences": {"ndcg@10": SavedDifference(mean=0.1, p_holm=0.2)}})
    text = latex_table(table.model_copy(update={"models": [first, unsure]}))
    assert "No difference from pop is significant (paired bootstrap" in text
    assert r"\dagger" not in text
    untested = second.model_copy(update={"differences": {}})
    assert "significant" not in latex_table(table.model_copy(update={"models": [first, untested]}))


@pytest.mark.parametrize("label", ["a}b", "tab:x y", "tab:é", "\\input", "a%", "tab:x\n"])
def test_a_label_that_tex_would_not_take(label: str) -> None:
    with pytest.raises(PalateError, match="--label"):
        check_format("latex", json_=False, label=label)


def test_captions_are_of_latex_tables() -> None:
    check_format("latex", json_=False, caption="Beauty", label="tab:beauty")
    with pytest.raises(PalateError, match="--caption is of a LaTeX table, and --format is csv"):
        check_format("csv", json_=False, caption="Beauty")
    with pytest.raises(PalateError, match="--caption is empty"):
        check_format("latex", json_=False, caption=" ")


def has_booktabs() -> bool:
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_booktabs(), reason="no LaTeX with booktabs is installed")
def test_it_compiles(table: SavedTable, tmp_path: Path) -> None:
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        + latex_table(table, caption=r"Half a {brace, 5% & a ~ ^ < | \\ of _ $ # users", label="tab:own_1.a-b")
        + "\nTable~\\ref{tab:own_1.a-b}.\n\\end{document}\n"
    )
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


def test_csv_has_every_figure_and_no_formula(table: SavedTable) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table(table))))
    assert [row["model"] for row in rows] == ["pop", "'=cmd|' /C calc'!A0", r"\input{secret}"]
    assert float(rows[1]["ndcg@10"]) == 0.2
    assert float(rows[1]["ndcg@10 difference"]) == 0.1
    assert float(rows[2]["ndcg@10 p"]) == 0.04
    assert rows[0]["ndcg@10 difference"] == ""
    assert float(rows[0]["ndcg@5"]) == 0.01


def test_control_characters_are_gone() -> None:
    assert escape_latex("a\x1b[31m\n~^<") == r"a?[31m?\textasciitilde{}\textasciicircum{}\textless{}"


def test_a_form_that_there_is_not() -> None:
    with pytest.raises(PalateError, match="no table as 'latx'"):
        check_format("latx", json_=False)
    with pytest.raises(PalateError, match="two forms"):
        check_format("csv", json_=True)
