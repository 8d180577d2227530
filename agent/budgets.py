"""Budgets: what was spent in the current period, where that leads, and how fast it burns.

Fed with committed charges only (at the start with the ledger's past ones), so that every number here is one
that the ledger vouches for. Memory is fixed: per budget a few period sums, and a ring of five-minute sums over
the last three days.
"""

from __future__ import annotations

import fnmatch
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final
from zoneinfo import ZoneInfo

from agent.calendar.periods import Period, period_at
from agent.model import BudgetStatus, Workload
from agent.settings import Budget
from agent.units import NANO, NS_PER_HOUR, NS_PER_S

WINDOWS_NS: Final[Mapping[str, int]] = {"1h": NS_PER_HOUR, "6h": 6 * NS_PER_HOUR, "3d": 72 * NS_PER_HOUR}
LONGEST_WINDOW_NS: Final = WINDOWS_NS["3d"]
BUCKET_NS: Final = 300 * NS_PER_S

_SLOTS: Final = LONGEST_WINDOW_NS // BUCKET_NS + 2   # and the present one, and the one the window cuts
_PERIODS_KEPT: Final = 4             # this one, and those that a late charge or a moved clock touches
_WORKLOADS_KEPT: Final = 4096


class BudgetBook:
    """Follows every budget. ``observe`` takes charges in any order; ``judge`` reads and changes nothing."""

    def __init__(
        self, budgets: tuple[Budget, ...], tag_keys: tuple[str, ...], currency: str, timezone: str
    ) -> None:
        """``currency`` is that of budgets that name none; periods are those of the IANA ``timezone``. Raises
        ValueError for a budget that matches on what is not a tag key."""
        self._accounts = tuple(_Account(b, b.currency or currency) for b in budgets)
        self._matchers = tuple(_matcher(b, tag_keys) for b in budgets)
        self._calendar = _Calendar(ZoneInfo(timezone))
        self._matched: dict[tuple[Workload, str], tuple[_Account, ...]] = {}

    def history_ns(self, utc_ns: int) -> tuple[list[int], int]:
        """What ``restore`` needs to know: the sums between these instants, at which present periods began, and since the
        last one each charge's own time."""
        starts = [self._calendar.period(account.kind, utc_ns).start_utc_ns for account in self._accounts]
        return starts, utc_ns - LONGEST_WINDOW_NS - BUCKET_NS

    def restore(self, rows: Iterable[tuple[int, Workload, str, int]], utc_ns: int) -> None:
        """Take up the ledger's past charges, in any order: rows of ``observe``'s arguments. ``utc_ns`` is now."""
        for row in rows:
            self._take(*row, recent=row[0] > utc_ns - LONGEST_WINDOW_NS - BUCKET_NS)

    def observe(self, utc_ns: int, workload: Workload, currency: str, cost_nano: int) -> None:
        """Take up one committed charge, once. ``utc_ns`` is when it began; a credit is negative. It counts for
        every budget that matches the workload and is in that currency."""
        self._take(utc_ns, workload, currency, cost_nano, recent=True)

    def _take(self, utc_ns: int, workload: Workload, currency: str, cost_nano: int, *, recent: bool) -> None:
        key = (workload, currency)
        accounts = self._matched.get(key)
        if accounts is None:
            if len(self._matched) >= _WORKLOADS_KEPT:
                self._matched.clear()
            accounts = self._matched[key] = self._match(workload, currency)
        for account in accounts:
            account.add(utc_ns, self._calendar.period(account.kind, utc_ns), cost_nano, recent)

    def judge(self, utc_ns: int) -> tuple[BudgetStatus, ...]:
        """Every budget at an instant, in the order of the configuration.

        - spent: what matched in the current period, credits deducted;
        - forecast: spent + rate x time left in the period, where the rate is that of the last three days, or of
          the time since the first charge where that is shorter;
        - burn ratio over a window: spend in the window over what the limit allots to that much time of this
          period. 1 spends exactly the limit by the period's end; 14.4 over 1h spends 2 % of a 30-day budget in
          that hour.
        """
        return tuple(a.status(utc_ns, self._calendar.period(a.kind, utc_ns)) for a in self._accounts)

    def _match(self, workload: Workload, currency: str) -> tuple[_Account, ...]:
        return tuple(
            account
            for account, globs in zip(self._accounts, self._matchers, strict=True)
            if account.currency == currency
            and all(fnmatch.fnmatchcase(workload[position], glob) for position, glob in globs)
        )


def _matcher(budget: Budget, tag_keys: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """The globs of a budget, each with the position of its tag in a workload. ``instance`` restricts nothing:
    one agent watches one instance."""
    globs = {key: glob for key, glob in budget.match.items() if key != "instance"}
    unknown = sorted(set(globs) - set(tag_keys))
    if unknown:
        raise ValueError(
            f"budget {budget.name!r} matches on {unknown[0]!r}, which is not a tag key;"
            f" write one of {', '.join(tag_keys)}, or instance"
        )
    return tuple((tag_keys.index(key), glob) for key, glob in globs.items())


class _Calendar:
    """The period around an instant, remembered per kind: nearly every call asks for the same one."""

    def __init__(self, timezone: ZoneInfo) -> None:
        self._timezone = timezone
        self._latest: dict[str, Period] = {}

    def period(self, kind: str, utc_ns: int) -> Period:
        latest = self._latest.get(kind)
        if latest is None or not latest.start_utc_ns <= utc_ns < latest.end_utc_ns:
            latest = self._latest[kind] = period_at(kind, utc_ns, self._timezone)
        return latest


class _Account:
    """One budget's sums."""

    def __init__(self, budget: Budget, currency: str) -> None:
        self.kind = budget.period
        self.currency = currency
        self._name = budget.name
        self._limit_nano = int(budget.limit * NANO)
        self._thresholds = budget.thresholds
        self._spent_nano: OrderedDict[int, int] = OrderedDict()      # period start -> sum; last touched, last
        self._recent = _Ring()
        self._first_ns: int | None = None

    def add(self, utc_ns: int, period: Period, cost_nano: int, recent: bool) -> None:
        start_ns = period.start_utc_ns
        self._spent_nano[start_ns] = self._spent_nano.get(start_ns, 0) + cost_nano
        self._spent_nano.move_to_end(start_ns)
        if len(self._spent_nano) > _PERIODS_KEPT:
            self._spent_nano.popitem(last=False)
        if recent:
            self._recent.add(utc_ns, cost_nano)
        if self._first_ns is None or utc_ns < self._first_ns:
            self._first_ns = utc_ns

    def status(self, utc_ns: int, period: Period) -> BudgetStatus:
        spent_nano = self._spent_nano.get(period.start_utc_ns, 0)
        sums_nano = {window: self._recent.sum_nano(utc_ns, ns) for window, ns in WINDOWS_NS.items()}
        watched_ns = 0 if self._first_ns is None else min(LONGEST_WINDOW_NS, utc_ns - self._first_ns)
        left_ns = period.end_utc_ns - utc_ns
        recent_nano = sums_nano["3d"]
        length_ns = period.end_utc_ns - period.start_utc_ns
        return BudgetStatus(
            name=self._name,
            period=period.name,
            currency=self.currency,
            limit_nano=self._limit_nano,
            spent_nano=spent_nano,
            forecast_nano=spent_nano + (recent_nano * left_ns // watched_ns if watched_ns > 0 else 0),
            burn_ratio={
                window: self._burn_ratio(sum_nano, WINDOWS_NS[window], length_ns)
                for window, sum_nano in sums_nano.items()
            },
            thresholds=self._thresholds,
        )

    def _burn_ratio(self, spent_nano: int, window_ns: int, length_ns: int) -> float:
        if self._limit_nano == 0:                     # nothing may be spent: on plan, or infinitely above it
            return float("inf") if spent_nano > 0 else 0.0
        return spent_nano * length_ns / (self._limit_nano * window_ns)


class _Ring:
    """Sums per five minutes of UTC. A slot remembers which five minutes it holds, so that a clock that jumps never
    mixes two."""

    def __init__(self) -> None:
        self._bucket = [-1] * _SLOTS
        self._sum_nano = [0] * _SLOTS
        self._full: dict[tuple[int, int], int] = {}   # sums of closed buckets, until one of them changes

    def add(self, utc_ns: int, cost_nano: int) -> None:
        bucket = utc_ns // BUCKET_NS
        slot = bucket % _SLOTS
        if self._bucket[slot] != bucket:
            self._bucket[slot] = bucket
            self._sum_nano[slot] = 0
            self._full.clear()
        elif any(oldest < bucket < newest for oldest, newest in self._full):
            self._full.clear()
        self._sum_nano[slot] += cost_nano

    def sum_nano(self, utc_ns: int, window_ns: int) -> int:
        """The sum over the window up to an instant. Of the bucket that the window's start cuts, the part that lies
        in the window counts, as if it had been spent evenly."""
        newest = utc_ns // BUCKET_NS
        oldest, outside_ns = divmod(utc_ns - window_ns, BUCKET_NS)
        key = (oldest, newest)
        if key not in self._full:
            if len(self._full) >= len(WINDOWS_NS):
                self._full.clear()
            self._full[key] = sum(self._at(bucket) for bucket in range(oldest + 1, newest))
        cut_nano = self._at(oldest) * (BUCKET_NS - outside_ns) // BUCKET_NS
        return cut_nano + self._full[key] + self._at(newest)

    def _at(self, bucket: int) -> int:
        slot = bucket % _SLOTS
        return self._sum_nano[slot] if self._bucket[slot] == bucket else 0
