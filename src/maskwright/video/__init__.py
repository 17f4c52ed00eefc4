"""What is carried from the key frames of a video to the frames between, and what says which are key frames."""
