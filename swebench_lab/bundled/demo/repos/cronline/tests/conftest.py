from datetime import date, datetime

import pytest

from cronline import BusinessCalendar


@pytest.fixture
def at():
    """Read a moment: ``at("2024-03-15 10:20")``."""
    return datetime.fromisoformat


@pytest.fixture
def office():
    """A calendar with two holidays in 2024 and New Year's Day."""
    return BusinessCalendar([date(2024, 3, 29), date(2024, 4, 1)], yearly=[(1, 1)])
