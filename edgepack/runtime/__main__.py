"""``python -m edgepack.runtime``: another name of ``python -m edgepack``, kept for one version."""

if __name__ == "__main__":
    from edgepack.__main__ import main

    main()
