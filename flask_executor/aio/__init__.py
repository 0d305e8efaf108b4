"""The asyncio layer: the loop thread, the way into a loop, awaiting, streams, async views."""
