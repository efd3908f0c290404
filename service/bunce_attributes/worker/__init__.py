"""Celery as the engine: it carries wake-ups, never rows."""
