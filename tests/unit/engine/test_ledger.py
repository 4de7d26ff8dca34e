"""The ledger: what is known to be where."""

from syncer.engine.ledger import BlobLedger
from syncer.oci.digest import Digest
from syncer.oci.reference import Repository

BLOB, OTHER = Digest.of(b"blob"), Digest.of(b"other")
A, B, C = (Repository("registry.test", path) for path in "abc")
AWAY = Repository("away.test", "a")


def test_a_blob_is_where_it_was_recorded():
    ledger = BlobLedger()
    ledger.record(A, BLOB)
    assert ledger.has(A, BLOB)
    assert not any((ledger.has(B, BLOB), ledger.has(AWAY, BLOB), ledger.has(A, OTHER)))


def test_others_at_the_same_registry_hold_it():
    ledger = BlobLedger()
    for repository in (A, B, AWAY):
        ledger.record(repository, BLOB)
    assert set(ledger.holders(C, BLOB)) == {A, B}
    assert list(ledger.holders(A, BLOB)) == [B]
    assert list(ledger.holders(AWAY, BLOB)) == []


def test_recording_twice_is_recording_once():
    ledger = BlobLedger()
    for _ in range(2):
        for repository in (A, B):
            ledger.record(repository, BLOB)
    assert sorted(ledger.holders(C, BLOB)) == [A, B]


def test_forgotten_blob_has_no_holder():
    ledger = BlobLedger()
    ledger.forget(A, BLOB)
    ledger.record(A, BLOB)
    ledger.forget(B, BLOB)
    assert ledger.has(A, BLOB)
    ledger.record(B, BLOB)
    ledger.forget(A, BLOB)
    assert list(ledger.holders(C, BLOB)) == [B]
    ledger.forget(B, BLOB)
    assert list(ledger.holders(C, BLOB)) == []


def test_one_uploads_at_a_time():
    ledger = BlobLedger()
    assert ledger.uploader(A, BLOB) is None
    ledger.begin_upload(A, BLOB)
    assert ledger.uploader(B, BLOB) == A
    assert ledger.uploader(AWAY, BLOB) is None
    ledger.end_upload(B, BLOB)
    assert ledger.uploader(B, BLOB) == A
    ledger.end_upload(A, BLOB)
    assert ledger.uploader(B, BLOB) is None


def test_manifests_belong_to_repositories():
    ledger = BlobLedger()
    ledger.record_manifest(A, BLOB)
    assert ledger.has_manifest(A, BLOB)
    assert not ledger.has_manifest(B, BLOB)


def test_first_caller_claims_the_probe():
    ledger = BlobLedger()
    assert [ledger.claim_probe(A), ledger.claim_probe(A), ledger.claim_probe(B)] == [True, False, True]
    assert not ledger.is_new(A)
    ledger.record_new(A)
    assert ledger.is_new(A)
    assert not ledger.is_new(B)


def test_digests_of_other_algorithms_are_other_digests():
    ledger = BlobLedger()
    ledger.record(A, Digest.of(b"blob", "sha512"))
    assert not ledger.has(A, BLOB)
