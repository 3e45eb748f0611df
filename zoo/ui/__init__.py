"""The local page `zoo ui`: a crystal, what models say of it, and the tensor's surface in the crystal's frame.

Made with Dash, the extra `[ui]`. `scene` draws, `panel` writes the numbers, `models` asks, `app` joins them.
"""
