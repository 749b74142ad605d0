#!/usr/bin/env python3
"""One chat call through a gateway with the official OpenAI client; prints the answer as JSON.

The key comes from the environment variable OPENAI_API_KEY, so that it shows in no process list.
exit 0: answered     1: refused or unreachable, with the reason on standard error
"""

import argparse
import json
import sys

import openai


def main() -> int:
    """Call and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="the gateway, such as http://192.168.10.18:4000")
    parser.add_argument("--model", required=True, help="one of the gateway's models")
    parser.add_argument("--prompt", default="Say hello in one sentence.")
    arguments = parser.parse_args()
    client = openai.OpenAI(base_url=f"{arguments.url}/v1", timeout=60, max_retries=0)
    try:
        raw = client.chat.completions.with_raw_response.create(
            model=arguments.model, messages=[{"role": "user", "content": arguments.prompt}]
        )
    except openai.OpenAIError as error:
        print(f"{arguments.url}: {error}", file=sys.stderr)
        return 1
    completion = raw.parse()
    report = {
        "call_id": raw.headers["x-litellm-call-id"],
        "status": raw.status_code,
        "latency_ms": round(raw.elapsed.total_seconds() * 1000, 1),
        "model": completion.model,
        "answer": completion.choices[0].message.content,
        "usage": completion.usage.model_dump(exclude_none=True) if completion.usage else None,
        "cost": raw.headers.get("x-litellm-response-cost"),
    }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
