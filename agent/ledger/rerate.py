"""Prices a past period again, from the energy in the ledger and a tariff of today.

A row whose rate and price the tariff would still give stays as it is. Any other is taken back whole and booked again, both
as rows of ``correction``: usage itself is never changed. So the sums by rate come out right, energy and time are the same
before and after, and doing it twice adds nothing. Hardware, maintenance and rent are not the tariff's: they stay. A host that
was priced by its power is rated again too (``rerate_host.py``).

A row knows when it began and how long it stands for, not when in between its energy was used. Where the tariff changes its
price within that time, the energy is divided evenly over it (or over the part that has the rate's old name).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from agent.errors import LedgerError
from agent.ledger.at_rest import forget_at_rest
from agent.ledger.file import transaction
from agent.ledger.rerate_host import HostRerating, HostRow, PriceKey
from agent.ledger.seal import Touched, install, require_good
from agent.ledger.totals import load_workloads
from agent.ledger.write import ADD_CORRECTION, ADD_COST, ADD_STATE_COST, ADD_SUMMARY
from agent.model import INCLUDED_IN_RENT, Charge, Share, Workload
from agent.pricing.pricing import Pricing
from agent.units import NS_PER_HOUR, energy_cost_nano, split_integer

SLICE_NS: Final = NS_PER_HOUR                    # a transaction: short enough for a daemon that waits to commit

_NET: Final = """
SELECT start_ns, uuid, workload, currency, tariff, rate, price,
       SUM(energy_mj), SUM(gpu_ns), SUM(cost_nano), SUM(emissions_ug), MAX(span_ns)
FROM (SELECT * FROM usage WHERE component = 'energy' AND start_ns >= ?1 AND start_ns < ?2
      UNION ALL SELECT * FROM correction WHERE component = 'energy' AND start_ns >= ?1 AND start_ns < ?2)
GROUP BY start_ns, uuid, workload, currency, tariff, rate, price
HAVING SUM(energy_mj) <> 0 OR SUM(gpu_ns) <> 0 OR SUM(cost_nano) <> 0
ORDER BY start_ns, uuid, workload, currency, tariff, rate, price
"""

# SQLite makes a floating point number of a sum that an integer does not hold.
_TOO_LARGE: Final = (
    "SELECT EXISTS (SELECT 1 FROM cost_total WHERE typeof(cost_nano) = 'real' OR typeof(credit_nano) = 'real') "
    "OR EXISTS (SELECT 1 FROM state_cost WHERE typeof(cost_nano) = 'real')")


class _Net(Struct, frozen=True):
    """What is booked under one price, corrections included."""

    start_ns: int
    uuid: str
    workload: int
    currency: str
    tariff: str
    rate: str
    price: str
    energy_mj: int
    gpu_ns: int
    cost_nano: int
    emissions_ug: int
    span_ns: int
    component: str = "energy"


class Difference(Struct, frozen=True):
    """What re-rating does to one workload's cost of energy and host, in one currency."""

    workload: Workload
    currency: str
    booked_nano: int
    rerated_nano: int


class Rerating:
    """One pass over a period. Make a new one for each pass: it carries remainders, and where the tiers stand."""

    def __init__(self, db: sqlite3.Connection, pricing: Pricing, rented: Callable[[str], bool] = lambda name: False) -> None:
        """``pricing`` has the tariff and nothing else: no hardware, no carries. ``rented``: whether a device of that NVML
        name is paid for by rent, which its energy is a part of."""
        install(db)
        self._rented = rented
        self._db = db
        self._pricing = pricing
        self._host = HostRerating(db, pricing)
        self._workloads: dict[int, Workload] = {}
        self._names: dict[str, str] = {}
        self._read_names()
        self._carries: dict[tuple[str, int, str], int] = {}
        self._sums: dict[tuple[int, str], list[int]] = {}

    def look(self, from_ns: int, to_ns: int) -> list[Difference]:
        """What would change. Writes nothing."""
        for start_ns, end_ns in self._slices(from_ns, to_ns):
            self._corrections(start_ns, end_ns)
        return self._differences()

    def write(self, from_ns: int, to_ns: int, utc_ns: int,
              within: Callable[[], contextlib.AbstractContextManager[None]] | None = None) -> list[Difference]:
        """Add the corrections, an hour of the period a transaction (``within`` begins and ends one); what they changed. One
        that is interrupted is finished by doing it again. Raises DatabaseError where an hour, or a total, is not what was
        written, and LedgerError where a total would be larger than the ledger holds."""
        run: int | None = None
        for start_ns, end_ns in self._slices(from_ns, to_ns):
            with within() if within is not None else transaction(self._db):
                self._forget_at_rest()
                require_good(self._db, start_ns, end_ns)
                rows = self._corrections(start_ns, end_ns)
                if rows:
                    touched = _touched(rows)
                    touched.require_good(self._db)
                    if run is None:
                        run = self._db.execute("INSERT INTO correction_run (utc_ns, from_ns, to_ns, rows) VALUES (?, ?, ?, 0)",
                                               (utc_ns, from_ns, to_ns)).lastrowid
                    self._db.execute("UPDATE correction_run SET rows = rows + ? WHERE id = ?", (len(rows), run))
                    self._add(rows)
                    touched.seal(self._db)
        self._forget_at_rest()
        return self._differences()

    def _forget_at_rest(self) -> None:
        """A daemon that stopped before, or stops in between two transactions, leaves a note of what is changed here."""
        for _, _, file in self._db.execute("PRAGMA database_list").fetchall():
            if file:
                forget_at_rest(Path(file))

    def _read_names(self) -> None:
        """Of workloads and devices; again where the daemon has named more since."""
        self._workloads = {number: workload for workload, number in load_workloads(self._db).items()}
        self._names = dict(self._db.execute("SELECT uuid, name FROM device"))

    def _slices(self, from_ns: int, to_ns: int) -> Iterator[tuple[int, int]]:
        while True:
            start_ns = self._db.execute(
                "SELECT MIN(start_ns) FROM summary WHERE start_ns >= ? AND start_ns < ?", (from_ns, to_ns)).fetchone()[0]
            if start_ns is None:
                return
            from_ns = min(start_ns + SLICE_NS, to_ns)
            yield start_ns, from_ns

    def _corrections(self, from_ns: int, to_ns: int) -> list[tuple[_Net, int]]:
        """Rows to add, each with a sign: -1 takes a row back, 1 books one. They are summed up on the way."""
        found: list[tuple[_Net, int]] = []
        buckets: dict[int, list[_Net]] = {}
        for row in self._db.execute(_NET, (from_ns, to_ns)):
            net = _Net(*row)
            if net.workload not in self._workloads or net.uuid not in self._names:
                self._read_names()
            buckets.setdefault(net.start_ns, []).append(net)
        hosts = self._host.rows(from_ns, to_ns)
        for nets in buckets.values():
            groups: dict[tuple[str, int, int], list[_Net]] = {}
            for net in nets:
                groups.setdefault((net.uuid, net.workload, net.span_ns), []).append(net)
            charges = {key: self._charges(group) for key, group in groups.items()}
            good = {_price(charge) for priced in charges.values() for charge in priced}
            for key, group in groups.items():
                for net in group:
                    self._sum(net, 0)
                    unknown = not all(charge.rate for charge in charges[key])        # now: a price that is not known any more
                    if (net.rate and unknown) or (not net.rate and self._rented(self._names.get(net.uuid, ""))):
                        self._sum(net, 1)
                        continue
                    if net.rate == INCLUDED_IN_RENT or (net.currency, net.tariff, net.rate, net.price) in good:
                        self._sum(net, 1)
                        continue
                    found.append((net, -1))
                    for new in self._rebooked(net, charges[key]):
                        self._sum(new, 1)
                        found.append((new, 1))
            found += self._host_corrections(hosts.pop(nets[0].start_ns, []), good)
        for rows in hosts.values():
            found += self._host_corrections(rows, ())
        return found

    def _host_corrections(self, rows: list[HostRow], in_force: Collection[PriceKey]) -> list[tuple[_Net, int]]:
        found: list[tuple[_Net, int]] = []
        for row in rows:
            booked, rebooked = _host_net(row), self._host.rebooked(row, in_force)
            self._sum(booked, 0)
            if rebooked is None:
                self._sum(booked, 1)
                continue
            found.append((booked, -1))
            for new in map(_host_net, rebooked):
                self._sum(new, 1)
                found.append((new, 1))
        return found

    def _charges(self, group: list[_Net]) -> list[Charge]:
        """What the tariff says of all that a workload used on a device in a row's time."""
        first = group[0]
        return self._pricing.charge(Share(
            uuid=first.uuid, workload=self._workloads[first.workload], start_utc_ns=first.start_ns,
            end_utc_ns=first.start_ns + first.span_ns, energy_mj=sum(net.energy_mj for net in group),
            gpu_ns=sum(net.gpu_ns for net in group), method="sole"), self._names.get(first.uuid, ""))

    def _rebooked(self, net: _Net, charges: list[Charge]) -> list[_Net]:
        charges = [charge for charge in charges if charge.rate == net.rate] or charges
        weights = [charge.energy_mj for charge in charges]
        if not any(weights):
            weights = [charge.end_utc_ns - charge.start_utc_ns for charge in charges]
        parts: dict[tuple[str, str, str, str], list[int]] = {}
        amounts = (net.energy_mj, net.gpu_ns, net.emissions_ug)
        for charge, *split in zip(charges, *(split_integer(amount, weights) for amount in amounts), strict=True):
            sums = parts.setdefault(_price(charge), [0, 0, 0])
            for i, amount in enumerate(split):
                sums[i] += amount
        rebooked = []
        for (currency, tariff, rate, price), (energy_mj, gpu_ns, emissions_ug) in parts.items():
            key = (net.uuid, net.workload, currency)
            cost_nano, self._carries[key] = energy_cost_nano(energy_mj, int(price), self._carries.get(key, 0))
            rebooked.append(_Net(net.start_ns, net.uuid, net.workload, currency, tariff, rate, price, energy_mj, gpu_ns,
                                 cost_nano, emissions_ug, net.span_ns))
        return rebooked

    def _add(self, rows: list[tuple[_Net, int]]) -> None:
        costs: dict[tuple[str, int, str, str], int] = {}
        corrections: list[tuple[Any, ...]] = []
        summary: list[tuple[Any, ...]] = []
        for net, sign in rows:
            amounts = (sign * net.energy_mj, sign * net.gpu_ns, sign * net.cost_nano, sign * net.emissions_ug, net.span_ns)
            corrections.append((net.start_ns, net.uuid, net.workload, net.component, net.currency, net.tariff, net.rate,
                                net.price, *amounts))
            summary.append((net.start_ns, net.workload, net.currency, *amounts))
            if net.currency:
                key = (net.uuid, net.workload, net.component, net.currency)
                costs[key] = costs.get(key, 0) + sign * net.cost_nano
        self._db.executemany(ADD_CORRECTION, corrections)
        self._db.executemany(ADD_SUMMARY, summary)
        # Counters only grow: what is less now is a credit. Which state the device was in is not in the rows.
        self._db.executemany(ADD_COST, [(*key, max(0, nano), max(0, -nano), 0) for key, nano in costs.items()])
        self._db.executemany(ADD_STATE_COST, [(uuid, workload, "unknown", currency, nano)
                                              for (uuid, workload, _, currency), nano in costs.items() if nano > 0])
        if self._db.execute(_TOO_LARGE).fetchone()[0]:
            raise LedgerError("a total would pass 9.22e9 of its currency, which is the most that a ledger holds; "
                              "nothing of this hour is written")

    def _sum(self, net: _Net, column: int) -> None:
        self._sums.setdefault((net.workload, net.currency), [0, 0])[column] += net.cost_nano

    def _differences(self) -> list[Difference]:
        self._read_names()
        return [Difference(self._workloads[workload], currency, booked, rerated)
                for (workload, currency), (booked, rerated) in sorted(self._sums.items())]


def _host_net(row: HostRow) -> _Net:
    return _Net(start_ns=row.start_ns, uuid=row.uuid, workload=row.workload, currency=row.currency, tariff=row.tariff,
                rate=row.rate, price=row.price, energy_mj=0, gpu_ns=0, cost_nano=row.cost_nano, emissions_ug=0,
                span_ns=row.span_ns, component="host")


def _touched(rows: list[tuple[_Net, int]]) -> Touched:
    touched = Touched()
    touched.add("correction_run", [()])
    for table in ("correction", "summary"):
        touched.add(table, {(net.start_ns,) for net, _ in rows})
    for table in ("cost_total", "state_cost"):
        touched.add_totals(table, {(net.uuid, net.workload) for net, _ in rows})
    return touched


def _price(charge: Charge) -> tuple[str, str, str, str]:
    return charge.currency, charge.tariff, charge.rate, str(charge.price)


def used_before(db: sqlite3.Connection, from_ns: int) -> Callable[[int], int]:
    """The devices' energy from an instant up to where a re-rating begins: where the tiers stand then."""
    def energy_mj(since_ns: int) -> int:
        sum_mj = "SELECT COALESCE(SUM(energy_mj), 0) FROM summary WHERE start_ns >= ? AND start_ns < ?"
        return int(db.execute(sum_mj, (since_ns, from_ns)).fetchone()[0])
    return energy_mj
