"""The example: an account with typed attributes, and a file of updates with a few faults of each kind.

python -m bunce_attributes.demo.example > examples/updates.csv
"""

from __future__ import annotations

import csv
import io
import random
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SEED = 20_240_601
CUSTOMERS = 900
ROWS = 3_000
HEADER = ("id", "customer_id", "customer_email", "value", "occurred_at", "first_name", "last_name", "phone_no")
START = datetime(2024, 3, 1, 6, tzinfo=UTC)
"""Long past, so that the file is the same whatever the clock of the machine says."""


@dataclass(frozen=True, slots=True)
class ExampleAttribute:
    """An attribute of the example's account; ``data_type`` as the API names it."""

    id: str
    name: str
    data_type: str


JOB_TITLE = ExampleAttribute("9f171295-6935-400c-af6b-fd628a46bc71", "Job title", "text")
PLAN = ExampleAttribute("2b6f0cc9-04d1-4be4-9a4f-8e1a3f6a2d10", "Plan", "text")
CITY = ExampleAttribute("5d3c7e1a-72b8-4c0e-b1f5-0a9d4e6c8b21", "City", "text")
NEWSLETTER = ExampleAttribute("c0a8f5d2-19e7-4a36-8d4b-7f2e5b1c9a32", "Newsletter", "text")
LAST_ORDER = ExampleAttribute("7e4b2a90-5c1d-4f8e-a6b3-d9c0f1e2a743", "Last order", "timestamp")
REVENUE = ExampleAttribute("e19d6c38-8f2a-4b57-9c0e-3a5b7d1f4e54", "Revenue", "numeric")
ATTRIBUTES = (JOB_TITLE, PLAN, CITY, NEWSLETTER, LAST_ORDER, REVENUE)

_FIRST_NAMES = "Ada Amara Bola Chidi Dami Efe Femi Grace Hassan Ife Jane Kofi Lola Musa Ngozi Ola Peter Sade Tunde Zoë"
_LAST_NAMES = "Adeyemi Bello Chukwu Danso Eze Falana Garba Ibrahim Johnson Kalu Mensah Nwosu Okafor Owusu Peters Sule"
_JOBS = ("Developer", "Product Manager", "Designer", "Head of Sales", "Data Analyst", "Founder & CEO", "Teacher")
_PLANS = ("free", "starter", "pro", "enterprise")
_CITIES = ("Lagos", "Abuja", "Accra", "Nairobi", "Kigali", "Cape Town", "São Paulo", "Washington, D.C.")


@dataclass(frozen=True, slots=True)
class _Customer:
    """Half of them are known by their id alone, some by their address alone, the rest by both."""

    customer_id: str
    email: str
    first_name: str
    last_name: str
    phone_no: str


class _Maker:
    """Draws from one sequence of random numbers, so that the file is always the same."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)  # noqa: S311 - the file must be the same every time
        self._customers = [self._customer(number) for number in range(CUSTOMERS)]

    def rows(self) -> list[list[str]]:
        """The good rows. A third of the customers changes all the time, so that keys have several values."""
        rows = []
        for number in range(ROWS):
            busy = self._draw(3) > 0
            customer = self._customers[self._draw(CUSTOMERS // 3) if busy else self._draw(CUSTOMERS)]
            attribute = ATTRIBUTES[self._draw(len(ATTRIBUTES))]
            # Two of three rows say when; a tenth of these tells of something that happened earlier than its place says.
            at = START + timedelta(seconds=37 * number + self._draw(37))
            if self._draw(10) == 0:
                at -= timedelta(days=1 + self._draw(20))
            occurred_at = self._written(at) if self._draw(3) else ""
            details = self._draw(12) == 0
            rows.append(self._row(attribute.id, customer, self._value(attribute, at), occurred_at, details=details))
        return rows

    def faulty(self) -> list[list[str]]:
        """The rows that cannot be saved, a few of each kind."""

        def row(attribute: str, value: str, occurred_at: str = "") -> list[str]:
            customer = self._customers[self._draw(CUSTOMERS)]
            return self._row(attribute, customer, value, occurred_at, details=False)

        def with_customer(customer_id: str, email: str) -> list[str]:
            return [PLAN.id, customer_id, email, "pro", "", "", "", ""]

        no_uuid = ("9f171295-6935-400c-af6b", "Plan", "2b6f0cc9-04d1-4be4-9a4f-8e1a3f6a2d1O", "17")
        no_email = ("ada.lovelace", "grace@", "@example.com", "lola eze@example.com")
        no_moment = ("last Tuesday", "2024-03-04 09:15:00", "04/03/2024", "2024-13-01T00:00:00Z")
        no_timestamp = (
            "31.01.2024 14:05",
            "yesterday",
            "2024-02-30T10:00:00Z",
            "2024-03-01T12:00:00+01:00",
            "1709280000",
        )
        no_number = ("n/a", "1.234,50", "₦ 12000", "12,5", "-")
        return [
            *(row(attribute, "Developer") for attribute in no_uuid),
            *(row("", "Developer") for _ in range(3)),
            *(with_customer("", "") for _ in range(4)),
            *(with_customer("", email) for email in no_email),
            *([*row(CITY.id, "Washington"), "D.C."] for _ in range(3)),
            *(row(JOB_TITLE.id, "Designer", moment) for moment in no_moment),
            *(row(PLAN.id, "enterprise", "2162-05-01T00:00:00Z") for _ in range(2)),
            *(row(LAST_ORDER.id, value) for value in no_timestamp),
            *(row(LAST_ORDER.id, value, "2024-06-01T00:00:00+01:00") for value in no_timestamp),
            *(row(REVENUE.id, value) for value in no_number),
        ]

    def text(self) -> str:
        """The file."""
        rows = self.rows()
        for faulty in self.faulty():
            rows.insert(self._draw(len(rows)), faulty)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(HEADER)
        for number, row in enumerate(rows):
            if number == len(rows) // 2:
                # Quotes that a program wrote without knowing CSV.
                out.write(f'{JOB_TITLE.id},c-100007,,"Head of "R&D"",,,,\n')
            writer.writerow(row)
        return out.getvalue()

    def _draw(self, below: int) -> int:
        return int(self._random.random() * below)

    def _customer(self, number: int) -> _Customer:
        first = _FIRST_NAMES.split()[self._draw(20)]
        last = _LAST_NAMES.split()[self._draw(16)]
        kind = self._draw(4)
        address = f"{first}.{last}{number}@example.{'com' if self._draw(2) else 'org'}".lower().replace("ë", "e")
        return _Customer(
            customer_id="" if kind == 0 else f"c-{100_000 + number}",
            email=address if kind in {0, 1} else "",
            first_name=first,
            last_name=last,
            phone_no=f"080{10_000_000 + self._draw(89_999_999)}",
        )

    def _row(self, attribute: str, customer: _Customer, value: str, occurred_at: str, *, details: bool) -> list[str]:
        profile = [customer.first_name, customer.last_name, customer.phone_no] if details else ["", "", ""]
        # The same address, however it is written.
        email = customer.email if customer.customer_id or self._draw(5) else customer.email.title()
        return [attribute, customer.customer_id, email, value, occurred_at, *profile]

    def _value(self, attribute: ExampleAttribute, at: datetime) -> str:
        match attribute.name:
            case "Job title":
                return _JOBS[self._draw(len(_JOBS))]
            case "Plan":
                return _PLANS[self._draw(len(_PLANS))]
            case "City":
                return _CITIES[self._draw(len(_CITIES))]
            case "Newsletter":
                return "true" if self._draw(2) else "false"
            case "Last order":
                return f"{at - timedelta(minutes=self._draw(600)):%Y-%m-%dT%H:%M:%SZ}"
        return f"{self._draw(500_000) / 100:.2f}"

    def _written(self, at: datetime) -> str:
        """Both forms that ``occurred_at`` may have: with an offset, and Unix seconds."""
        if self._draw(8) == 0:
            return f"{at.timestamp():.0f}"
        return at.isoformat().replace("+00:00", "Z")


def example_csv() -> str:
    """The text of ``examples/updates.csv``."""
    return _Maker().text()


if __name__ == "__main__":
    sys.stdout.write(example_csv())
