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
A backend declares what it has in its class's `capabilities` (`CAPABILITIES` says what there is); what needs anything else
is not tried.
"""

from swebench_lab.sandbox.capabilities import CAPABILITIES as CAPABILITIES
from swebench_lab.testing.conformance.catalogue import behaviours as behaviours
from swebench_lab.testing.conformance.catalogue import run as run
from swebench_lab.testing.conformance.kit import GROUPS as GROUPS
from swebench_lab.testing.conformance.kit import Behaviour as Behaviour
from swebench_lab.testing.conformance.kit import Outcome as Outcome
from swebench_lab.testing.conformance.kit import reference_snapshot as reference_snapshot

__all__ = ["CAPABILITIES", "GROUPS", "Behaviour", "Outcome", "behaviours", "reference_snapshot", "run"]
