"""Computing on ciphertexts: encrypted scoring (TenSEAL) and encrypted training (OpenFHE).

The engines live in worker processes of their own environments (`fiduciary worker create tenseal|openfhe`); this
package speaks to them over bounded frames and files and imports neither. Who is protected against whom, and what is
seen by whom all the same, is said in docs/joint-he.md.
"""

from fiduciary.joint.he._encoding import Encoding, encoding_of
from fiduciary.joint.he._scorecard import EncryptedScorecard
from fiduciary.joint.he._scoring import ClientSide, ServerSide
from fiduciary.joint.he._threshold import join_secret, split_secret
from fiduciary.joint.he._training import EncryptedLogisticRegression, TrainingReport

__all__ = [
    "ClientSide",
    "Encoding",
    "EncryptedLogisticRegression",
    "EncryptedScorecard",
    "ServerSide",
    "TrainingReport",
    "encoding_of",
    "join_secret",
    "split_secret",
]
