"""Storage behind the file door: a local folder (``local``) and S3-compatible buckets (``s3``), one port for both.

``errors`` is what they raise; ``connect`` opens the right one for a grant. For S3, ``obstore`` reads, copies and
deletes; ``rest`` adds the calls it does not have (paged listing with a delimiter, multipart uploads that can be
aborted at any point), signed by ``sigv4``.
"""
