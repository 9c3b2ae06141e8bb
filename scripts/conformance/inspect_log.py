"""Has inspect_ai read a log that `agentflow eval export --inspect RUN --out LOG.json` wrote, and prints what it sees.

    pip install inspect-ai pandas pyarrow && python scripts/conformance/inspect_log.py LOG.json

Exits with 1 where a sample, message, tool call or score is not what the log of such a run has to hold.
"""

import sys

from inspect_ai.analysis import samples_df
from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries
from inspect_ai.model import ChatMessageAssistant, ChatMessageTool

path = sys.argv[1]
log = read_eval_log(path)
problems = []
if log.version != 2:
    problems.append(f"version {log.version}")
right = 0
for sample in log.samples:
    name = f"{sample.id} epoch {sample.epoch}"
    calls, results = [], []
    for message in sample.messages:
        if isinstance(message, ChatMessageAssistant):
            calls += [call.id for call in message.tool_calls or []]
        if isinstance(message, ChatMessageTool):
            results.append(message.tool_call_id)
    if calls != results:
        problems.append(f"{name}: calls {calls}, results {results}")
    score = sample.scores["agentflow"]
    if score.value not in ("C", "I") or not score.explanation:
        problems.append(f"{name}: score {score}")
    right += score.value == "C"
accuracy = log.results.scores[0].metrics["accuracy"].value
summaries = read_eval_log_sample_summaries(path)
if len(summaries) != len(log.samples):
    problems.append(f"{len(summaries)} summaries of {len(log.samples)} samples")
print(f"{log.eval.task}, {log.eval.model}, {log.status}: {right} of {len(log.samples)} right, accuracy {accuracy}")
frame = samples_df(log)
if len(frame) != len(log.samples):
    problems.append(f"{len(frame)} rows of {len(log.samples)} samples")
print("\n".join(problems) or "no problems")
sys.exit(bool(problems))
