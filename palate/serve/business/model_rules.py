"""Rules as they apply to the catalogue of one model: masks and factors, made once for each change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.bundle.items import BundleItems
from palate.data.conditions import Mask, find_matches, near_condition, parse_condition
from palate.data.item_filter import mask_of
from palate.errors import PalateError, suggest
from palate.serve.business.rules_file import Boost, RuleSet

# Boosts that meet in one item multiply, up to this much, and down to its inverse.
_MOST_FACTOR = 10.0
# A cap needs items to choose from: the first number times as many as the answer has, but at least the second.
_POOL_TIMES, _POOL_LEAST = 5, 50
# Of a value under `without`: the mistake would show what was to be left out, and nobody would notice.
_OUT = ", so it leaves nothing out"


@dataclass(frozen=True)
class PinnedItem:
    """An item with a fixed position.

    Attributes:
        item: its index.
        position: from 0.
        history: bool ``[num_items + 1]``, of which the history must hold one; None: any history.
    """

    name: str
    item: int
    position: int
    history: Mask | None

    def applies(self, history: Sequence[int]) -> bool:
        return self.history is None or any(self.history[item] for item in history)


@dataclass(frozen=True)
class FieldCap:
    """At most ``most`` items with the same value among the first ``first``.

    Attributes:
        column: the field of all items, padding not counted: texts, or lists of texts.
    """

    name: str
    field: str
    most: int
    first: int
    column: pl.Series

    def values_of(self, item: int) -> tuple[str, ...]:
        """The different values of an item, by its index; none where the field is empty. An answer asks for a few
        hundred items, so they are looked up one by one.

        >>> cap = FieldCap("cap 1", "tags", 1, 10, pl.Series([["sun", "new", "sun"], None]))
        >>> cap.values_of(1), cap.values_of(2)
        (('sun', 'new'), ())
        """
        cell = self.column[item - 1]
        if cell is None:
            return ()
        if isinstance(cell, str):
            return (cell,)
        return tuple(dict.fromkeys(one for one in cell.to_list() if one is not None))


@dataclass(frozen=True)
class ModelRules:
    """What the rules mean for one model.

    Attributes:
        allowed: bool ``[num_items + 1]``, what may be recommended; None: all.
        left: how many items that are.
        left_out: how many items each rule leaves out by itself.
        factors: float32 ``[num_items + 1]`` by which ranks are divided; None: there is no boost.
        boosts: name, factor and mask of each boost, for explanations.
        warnings: what in the rules means nothing here.
    """

    version: str
    num_items: int
    allowed: Mask | None
    left: int
    left_out: dict[str, int]
    factors: npt.NDArray[np.float32] | None = None
    boosts: list[tuple[str, float, Mask]] = field(default_factory=list)
    pins: list[PinnedItem] = field(default_factory=list)
    caps: list[FieldCap] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the catalogue that is allowed."""
        return self.left / max(self.num_items, 1)

    def pool(self, k: int) -> int:
        """How many of the model's best items decide which are the first ``k``.

        With factors from m to M, none of the model's first k stands behind k / m, and an item of rank r is nowhere
        before r / M: beyond k * M / m nothing can come among the first.
        """
        most = k
        if self.factors is not None:
            most = math.ceil(k * max(float(self.factors.max()), 1.0) / min(float(self.factors.min()), 1.0))
        if self.caps:
            most = max(most, k * _POOL_TIMES, _POOL_LEAST)
        return min(most, self.num_items)


def compile_rules(rule_set: RuleSet, items: BundleItems) -> ModelRules:
    """Rules for a catalogue. Takes long on large ones: call it on a thread.

    Raises:
        PalateError: an unknown field, or no item is left; the message names file and line.
    """
    return _Compiler(rule_set, items).compile()


class _Compiler:
    def __init__(self, rule_set: RuleSet, items: BundleItems) -> None:
        self.rule_set, self.items = rule_set, items
        self.fields = ["item_id", "title", *items.fields]
        self.warnings: list[str] = []

    def compile(self) -> ModelRules:
        rules = self.rule_set.rules
        allowed, left_out = self._allowed()
        boosts = [
            (boost.name or f"boost {number}", boost.factor, self._boosted(boost))
            for number, boost in enumerate(rules.boost, 1)
        ]
        factors = None
        if boosts:
            product = np.ones(len(self.items) + 1, np.float32)
            for _, factor, mask in boosts:
                product[mask] *= factor
            factors = np.clip(product, 1 / _MOST_FACTOR, _MOST_FACTOR)
        pins = []
        for number, pin in enumerate(rules.pin, 1):
            history = self._all_of(pin.history) if pin.history else None
            pins += [
                PinnedItem(pin.name or f"pin {number}", item, pin.position - 1, history)
                for item in self._known([pin.item], "pin")
            ]
        caps = [
            FieldCap(cap.name or f"cap {number}", cap.field, cap.most, cap.first, self._texts(cap.field))
            for number, cap in enumerate(rules.cap, 1)
        ]
        left = len(self.items) if allowed is None else int(allowed.sum())
        return ModelRules(
            self.rule_set.version,
            len(self.items),
            allowed,
            left,
            left_out,
            factors,
            boosts,
            pins,
            caps,
            self.warnings,
        )

    def _allowed(self) -> tuple[Mask | None, dict[str, int]]:
        """The mask of all that may be shown, and what each rule leaves out."""
        rules, masks = self.rule_set.rules, {}
        if self.rule_set.in_stock is not None:  # a shop has in stock what the model has not seen yet: no warning
            known = [index for one in self.rule_set.in_stock if (index := self.items.index_of(one)) is not None]
            masks["in_stock"] = mask_of(len(self.items), known)
        if rules.allow is not None:
            masks["allow"] = self._mask_of(rules.allow, "allow")
        if self.rule_set.deny:
            masks["deny"] = ~self._mask_of(self.rule_set.deny, "deny")
        masks.update({f"only {one}": self._met(one) for one in rules.only})
        masks.update({f"without {one}": ~self._met(one, _OUT) for one in rules.without})
        if not masks:
            return None, {}
        allowed = np.logical_and.reduce(list(masks.values()))
        allowed[0] = False
        if not allowed.any():
            raise PalateError(
                f"{self.rule_set.path}: no item is left by: {', '.join(masks)}",
                "Correct the rules, or the lists that they name.",
            )
        return allowed, {name: int((~mask[1:]).sum()) for name, mask in masks.items()}

    def _boosted(self, boost: Boost) -> Mask:
        mask = self._mask_of(boost.items, "boost") if boost.items else self._all_of(boost.only)
        if boost.items and boost.only:
            mask &= self._all_of(boost.only)
        for condition in boost.without:
            mask &= ~self._met(condition, _OUT)
        return mask

    def _all_of(self, conditions: Sequence[str]) -> Mask:
        mask = np.ones(len(self.items) + 1, np.bool_)
        for condition in conditions:
            mask &= self._met(condition)
        return mask

    def _met(self, condition: str, nothing_means: str = "") -> Mask:
        """The items that meet a condition; a value that no item has, perhaps misspelt, is warned of.

        Args:
            nothing_means: what follows for the warning where no item has a value of ``=``.
        """
        try:
            found = find_matches(self.items.catalogue.frame, condition, self.fields)
        except PalateError as error:
            raise PalateError(f"{self.rule_set.where(condition)}: {error.message}", error.remedy) from None
        nothing = found.missing or ([] if found.mask.any() else [condition])
        where = self.rule_set.where_for_clients(condition)
        follows = "" if parse_condition(condition, self.fields).operator == "!=" else nothing_means
        for one in nothing:
            near = near_condition(self.items.catalogue.frame, one, self.fields)
            hint = "" if near is None else f". Did you mean '{near}'?"
            self.warnings.append(f"{where}: no item meets '{one}'{follows}{hint}")
        return found.mask

    def _known(self, ids: Iterable[str], rule: str) -> list[int]:
        found = []
        for one in ids:
            index = self.items.index_of(one)
            if index is not None:
                found.append(index)
                continue
            remedy = "; conditions belong under only and without" if "=" in one else ""
            where = self.rule_set.where_for_clients(one)
            self.warnings.append(f"{where}: {rule} names the unknown item '{one}'{remedy}")
        return found

    def _mask_of(self, ids: Iterable[str], rule: str) -> Mask:
        return mask_of(len(self.items), self._known(ids, rule))

    def _texts(self, name: str) -> pl.Series:
        """A field as texts, or as lists of texts."""
        if name not in self.fields:
            raise PalateError(
                f"{self.rule_set.where(name)}: the catalogue has no field '{name}'", suggest(name, self.fields)
            )
        column = self.items.catalogue.frame[name]
        return column.cast(pl.List(pl.String) if isinstance(column.dtype, pl.List) else pl.String)
