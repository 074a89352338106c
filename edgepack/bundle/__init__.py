"""The .edgepack file: manifest, archive, golden vectors, bill of materials."""
