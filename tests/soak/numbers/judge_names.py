"""How a case can end, for those who have no numpy."""


class Unclear(Exception):
    """A decision hangs on rounding, and everything behind it with it."""


class Fault(Exception):
    """A difference that rounding does not explain."""
