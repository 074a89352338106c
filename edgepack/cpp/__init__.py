"""libedgepack: the C++ loader's source, what of edgepack's own facts it is built with, and what builds it."""
