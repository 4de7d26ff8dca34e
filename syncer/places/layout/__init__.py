"""OCI image layouts (image-spec 1.1, image-layout.md), in a folder or in a tar file."""
