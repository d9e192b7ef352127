"""The conformance kit: named behaviours that any sandbox backend must show, for our tests and for users.

```python
import swebench_lab as lab
from my_package.my_module import open_my_box

for outcome in lab.conformance.run(open_my_box):
    print(outcome)
```
In a shell, for a backend by its name or for a function of one's own that takes a Snapshot and options:
```
python -m swebench_lab.testing.conformance namespace-rootless
python -m swebench_lab.testing.conformance my_package.my_module:open_my_box --lacks "own loopback"
```
A backend that does not isolate, or bound, or keep layers leaves out that group; one that lacks a feature by its nature
(`FEATURES`) says so, and what needs it is not tried.
"""

from swebench_lab.testing.conformance.catalogue import behaviours as behaviours
from swebench_lab.testing.conformance.catalogue import run as run
from swebench_lab.testing.conformance.kit import FEATURES as FEATURES
from swebench_lab.testing.conformance.kit import GROUPS as GROUPS
from swebench_lab.testing.conformance.kit import LACKS as LACKS
from swebench_lab.testing.conformance.kit import Behaviour as Behaviour
from swebench_lab.testing.conformance.kit import Outcome as Outcome
from swebench_lab.testing.conformance.kit import reference_snapshot as reference_snapshot

__all__ = ["FEATURES", "GROUPS", "LACKS", "Behaviour", "Outcome", "behaviours", "reference_snapshot", "run"]
