"""Durations and sizes as a person writes them."""


def format_duration(seconds: float | None) -> str:
    """Return 40 s, 3 min, 2 h 5 min or 4 d. A negative duration is 0 s: it comes from two different clocks."""
    if seconds is None:
        return ""
    seconds = max(0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{round(seconds, 1):g} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    parts = ((minutes // 60, "h"), (minutes % 60, "min")) if minutes < 48 * 60 else ((hours // 24, "d"), (hours % 24, "h"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def format_size(size_bytes: int | None) -> str:
    """Return a size in B, kB, MB or GB; an empty text for 0 or None."""
    if not size_bytes:
        return ""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if round(1000 * size_bytes / factor, 1) >= 1000:  # the smaller unit would show 1000 or more
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"
