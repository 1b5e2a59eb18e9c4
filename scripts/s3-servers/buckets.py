"""Makes the buckets of the S3 tests: buckets.py ENDPOINT KEY SECRET NAME[:KIND]...

Kinds: lock (object lock, so also versions), versions, default-retention (object lock with a default).
"""

import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

endpoint, key, secret, *buckets = sys.argv[1:]
s3 = boto3.client(
    "s3",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id=key,
    aws_secret_access_key=secret,
    config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=5, read_timeout=60),
)
for bucket in buckets:
    name, _, kind = bucket.partition(":")
    locked = kind in ("lock", "default-retention")
    for attempt in range(30):
        try:
            s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
            break
        except (BotoCoreError, ClientError) as error:
            # A gateway that just came up is still making its pools.
            if attempt == 29:
                sys.exit(f"bucket {name}: {error}")
            time.sleep(1)
    if kind == "versions":
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    if kind == "default-retention":
        s3.put_object_lock_configuration(
            Bucket=name,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
            },
        )
