"""The query of the list: which requests it shows, in which order, and which page of them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints

from progress_exhaust.hooks.requests.status import Filter, Order, Sort

NEAR_PAGES = 2  # pages before and after this one that have a link; the first and the last always have one


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of time zones, or a path
        raise ValueError(f"there is no time zone {name}") from None
    return name


Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]  # Postgres does not store NUL
SearchText = Annotated[Text, StringConstraints(strip_whitespace=True)]
# A form sends an empty text for a date that was not chosen. The last days of the calendar have no next day.
Day = Annotated[
    Annotated[date, Field(ge=date(1970, 1, 1), le=date(9999, 12, 1))] | None, BeforeValidator(lambda value: value or None)
]


class Search(BaseModel):
    """The query of the list: the fields of its form, the order, and the page. The days are those of the time zone."""

    text: SearchText = ""
    status: SearchText = ""
    channel: SearchText = ""
    collection: SearchText = ""
    batch: SearchText = ""
    request: SearchText = ""
    since: Day = None
    until: Day = None
    zone: Annotated[SearchText, AfterValidator(_check_zone)] = ""
    sort: Sort = Sort.SUBMITTED
    order: Literal["", "ascending"] = ""
    page: int = Field(1, ge=1, le=10_000)
    fragment: bool = False

    @property
    def filter(self) -> Filter:
        texts = self.model_dump(include={"text", "status", "channel", "collection", "batch", "request"})
        return Filter(
            **texts,
            submitted_from=self._start_of(self.since) if self.since else "",
            submitted_before=self._start_of(self.until + timedelta(days=1)) if self.until else "",
        )

    @property
    def sorting(self) -> Order:
        return Order(self.sort, ascending=bool(self.order))

    @property
    def is_filtered(self) -> bool:
        return bool(self.query(sort=Sort.SUBMITTED, order="", page=1, zone=""))

    @property
    def has_more_filters(self) -> bool:
        """Tell whether one of the filters is set that the form shows on demand."""
        return bool(self.channel or self.collection or self.batch or self.request or self.since or self.until)

    def query(self, **changes: Any) -> str:
        """Return the query of the same list, or with changes that of another page, status or order."""
        values = self.model_copy(update=changes).model_dump(mode="json", exclude={"fragment"}, exclude_defaults=True)
        return urlencode(values)

    def sorted_query(self, sort: str) -> str:
        """Return the query of the list sorted by a column: the greatest first, or the other way round if it is that already."""
        return self.query(sort=Sort(sort), order="" if self.sort != sort or self.order else "ascending", page=1)

    def _start_of(self, day: date) -> str:
        """Return the start of a day as UTC without a zone, as the requests have their times."""
        start = datetime.combine(day, time(), ZoneInfo(self.zone or "UTC"))
        return start.astimezone(UTC).replace(tzinfo=None).isoformat(" ")


def page_numbers(page: int, pages: int) -> list[int | None]:
    """Return the pages that have a link; None stands for those between."""
    return list(_with_gaps(number for number in range(1, pages + 1) if number in (1, pages) or abs(number - page) <= NEAR_PAGES))


def _with_gaps(numbers: Iterator[int]) -> Iterator[int | None]:
    last = 0
    for number in numbers:
        if number > last + 1:
            yield None
        yield number
        last = number
