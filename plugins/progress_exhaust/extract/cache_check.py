"""Notice a flushed user cache, or a wrong table of users, before the expensive reads, and while the facts arrive.

Nothing is guessed: the extract fails when so many learners are missing that the whole batch has too many. A retry costs little,
because the enrolments are staged, and this check comes first.
"""

from collections.abc import Mapping, Sequence

from progress_exhaust.errors import SourceError
from progress_exhaust.extract.chunk_files import from_parquet
from progress_exhaust.hooks.user_source import UserSource
from progress_exhaust.report.eligibility import ORG_FIELDS, is_cache_flushed
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.staging.manifests import ChunksManifest

SAMPLE = 500  # learners of the first chunk; the first learner of each chunk is sampled, too


def check_user_cache(batch_context: BatchContext, chunks: ChunksManifest) -> None:
    """Raise SourceError if too many of the enrolled learners are missing from the source of users.

    A sample decides whether they are counted.
    """
    max_missing = batch_context.site.settings.max_missing_users_percent
    enrolled, missing = chunks.counts["enrolled"], 0
    if not is_cache_flushed(enrolled=enrolled, missing=enrolled, max_missing_percent=max_missing):
        return  # even if all of them are missing
    with batch_context.site.users() as source:
        for number in range(len(chunks.first_user_ids)):
            enrolled_chunk = from_parquet(batch_context.staging.enrolled_chunk(number).read_bytes())
            user_ids = enrolled_chunk["user_id"].to_pylist()
            if number == 0:
                sample = [*user_ids[:SAMPLE], *chunks.first_user_ids]
                if _count_missing(source, sample) * 100 <= max_missing * len(sample):
                    return
            missing += _count_missing(source, user_ids)
            raise_if_flushed(batch_context, {"enrolled": enrolled, "missing": missing})


def _count_missing(source: UserSource, user_ids: Sequence[str]) -> int:
    found = source.users(user_ids, ORG_FIELDS)
    return sum(user_id not in found for user_id in user_ids)


def raise_if_flushed(batch_context: BatchContext, counts: Mapping[str, int]) -> None:
    """Raise SourceError, and delete the facts, if too many learners are missing from the source of users.

    :param counts: `enrolled`, of the whole batch, and `missing`, of the learners up to now
    """
    max_missing = batch_context.site.settings.max_missing_users_percent
    if is_cache_flushed(enrolled=counts["enrolled"], missing=counts["missing"], max_missing_percent=max_missing):
        batch_context.staging.delete_folder("facts")
        source = batch_context.site.users().users_name
        raise SourceError(
            f"{batch_context.batch}: at least {counts['missing']:,} of {counts['enrolled']:,} learners are missing from the "
            f"{source}, more than max_missing_users_percent ({max_missing:g}) allows. Check that it is being filled"
        )
