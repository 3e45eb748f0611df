"""The types that encoders, readouts and datasets share. Plugin authors import them from `zoo.api`."""

from zoo.contract.versions import require_e3nn

# Whatever imports e3nn comes by here first, `zoo.api` and the commands too: one line, not a traceback from inside e3nn.
require_e3nn()
