"""The inside of the render worker. Only ``studio`` imports bpy, and only the worker imports it."""
