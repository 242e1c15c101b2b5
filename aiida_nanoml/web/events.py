"""Server-sent events: progress that comes to a page while it is looked at."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse


def event_stream(looks: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """Return a stream with an event for each look that differs from the one before, until one says ``ended``."""

    async def lines() -> AsyncIterator[str]:
        last = None
        async for look in looks:
            # A comment shows that the server is there, and finds out whether anybody listens.
            yield f'data: {json.dumps(look)}\n\n' if look != last else ': the same\n\n'
            last = look
            if look['ended']:
                return

    return StreamingResponse(lines(), media_type='text/event-stream')
