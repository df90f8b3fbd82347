"""From a plan to two pictures: Blender in processes of its own, and the denoiser."""
