"""A job from words to file, for the command and for whoever else makes videos: asked, resolved, loaded, made."""

from filmstrip.jobs.events import Advanced, Begun, Fetched, JobEvent, Kept, Learned, MadeVideo, Noted, Tell
from filmstrip.jobs.job import Job, Source
from filmstrip.jobs.passes import make
from filmstrip.jobs.records import job_of, record_of
from filmstrip.jobs.resolution import ResolvedJob, resolve_job
from filmstrip.jobs.unfinished import KeptVideo, described_kept, finish_video, read_kept
from filmstrip.jobs.videos import load

__all__ = [
    "Advanced",
    "Begun",
    "Fetched",
    "Job",
    "JobEvent",
    "Kept",
    "KeptVideo",
    "Learned",
    "MadeVideo",
    "Noted",
    "ResolvedJob",
    "Source",
    "Tell",
    "described_kept",
    "finish_video",
    "job_of",
    "load",
    "make",
    "read_kept",
    "record_of",
    "resolve_job",
]
