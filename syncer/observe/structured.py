"""structlog without its pretty tracebacks, which would load rich at each start: a third of ours."""

import sys

if "rich" in sys.modules:
    import structlog
else:
    # What Python looks up as None cannot be imported, and structlog does without it.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog
    finally:
        del sys.modules["rich"]

__all__ = ["structlog"]
