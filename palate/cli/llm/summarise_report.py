"""What ``palate summarise`` prints: the plan before, the outcome after."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from palate.mllm.summaries.report import CostEstimate, SummaryReport

_REASONS_SHOWN = 10


def show_plan(plan: CostEstimate, folder: Path, as_json: bool) -> None:
    """What a run would have to do."""
    if as_json:
        print(json.dumps({"store": str(folder), **asdict(plan)}, indent=2))
        return
    print(f"{plan.requests:,} texts are missing in {folder}.")
    if plan.requests:
        pictures = f", {plan.pictures:,} pictures" if plan.pictures else ""
        print(f"To be read: about {plan.prompt_tokens:,} tokens{pictures}.")
        print(f"To be written: at most {plan.new_tokens:,} tokens.")


def finish(report: SummaryReport, as_json: bool) -> None:
    """Tell the outcome; end with exit code 1 where something could not be had."""
    if as_json:
        print(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        _tell(report)
    if report.missing:
        raise typer.Exit(1)


def _tell(report: SummaryReport) -> None:
    what = "items" if report.unit == "items" else f"cut-offs of {report.units:,} users"
    there = report.asked - report.left - len(report.missing)
    print(f"{there:,} of {report.asked:,} {what} have a summary in {report.folder}.")
    print(f"{report.had:,} had one before; {report.written:,} texts are new.")
    for reason, count in report.skipped.items():
        print(f"{count:,} {report.unit} {reason} {'was' if count == 1 else 'were'} left out.")
    if report.refused:
        print(f"Why pictures cannot be shown is in {report.folder / 'missing.json'}, e.g. {report.refused[0].error}")
    if report.left:
        print(f"{report.left:,} are left for another run (--limit).")
    cost = report.cost
    if cost.requests:
        failed = f", {cost.failed:,} in vain" if cost.failed else ""
        print(
            f"Cost of this run: {cost.requests:,} requests{failed}, {cost.attempts:,} attempts, "
            f"{cost.prompt_tokens:,} tokens read, {cost.new_tokens:,} written, {cost.seconds:,.1f} s."
        )
    each = report.per_thousand
    if each:
        print(
            f"Cost of 1,000 {report.unit} from nothing, by all runs of this store: {each['requests']:,.0f} requests, "
            f"{each['prompt_tokens']:,.0f} tokens read, {each['new_tokens']:,.0f} written, {each['seconds']:,.0f} s."
        )
    if report.missing:
        print(f"{len(report.missing):,} could not be had, listed in {report.folder / 'missing.json'}:")
        for reason, count in list(report.reasons.items())[:_REASONS_SHOWN]:
            print(f"  {count:,} x {reason}")
        if len(report.reasons) > _REASONS_SHOWN:
            print(f"  and {len(report.reasons) - _REASONS_SHOWN} reasons more")
        print("Start it again to ask for them once more.")
