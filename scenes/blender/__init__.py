"""The inside of the render worker: scripts that need Blender and the standard library alone.

They run in whichever Python has Blender, which need not be the trainer's: nothing here imports the
rest of the package, and nothing but ``scenes.process`` starts them. ``meshes.py`` and ``models.py``
need no Blender either, and the parent imports them too.
"""
