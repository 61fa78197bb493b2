"""Find the packages that contain a learner, and delete them or have them made again."""
