"""What several formats share: checked fields, XML, image files, outlines."""
