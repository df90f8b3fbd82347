"""From two pictures to labels: boxes, visible areas, contrasts, and what hides what."""
