"""The inside of the render worker: scripts that need Blender and the standard library alone.

They run in whichever Python has Blender, which need not be the trainer's: nothing here imports the
rest of the package, and nothing but ``dig_env.scenes.render.process`` starts them. ``meshes.py``
needs no Blender either, and the parent imports it too.
"""
