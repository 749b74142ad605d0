-- Rows of a LiteLLM that has been in use: population.spend_logs calls over population.days days until now, and the keys,
-- teams, users and budgets that they were made with. The same random numbers every time.
SELECT setseed(0.42);

-- Who and what there is

INSERT INTO "LiteLLM_BudgetTable" (budget_id, max_budget, soft_budget, tpm_limit, rpm_limit, budget_duration, budget_reset_at, created_by, updated_by)
SELECT 'budget-' || n, 100 * n, 80 * n, 100000 * n, 60 * n, (ARRAY['1d', '7d', '30d'])[1 + n % 3], now() + n * interval '1 day', 'admin', 'admin'
FROM generate_series(1, 8) AS n;

INSERT INTO "LiteLLM_OrganizationTable" (organization_id, organization_alias, budget_id, models, created_by, updated_by)
SELECT 'org-' || n, (ARRAY['Research', 'Produkt & Qualität'])[n], 'budget-' || n, '{}', 'admin', 'admin'
FROM generate_series(1, 2) AS n;

INSERT INTO "LiteLLM_UserTable" (user_id, user_alias, user_email, user_role, teams, models, max_budget, metadata)
SELECT 'user-' || n, (ARRAY['Zoë', 'José', '李雷', 'Ömer', 'Anna'])[1 + n % 5] || ' ' || n, 'user' || n || '@example.com',
    CASE WHEN n = 1 THEN 'proxy_admin' ELSE 'internal_user' END, ARRAY['team-' || 1 + n % 12], '{}',
    CASE WHEN n % 4 = 0 THEN 250.5 END, jsonb_build_object('department', 'd' || n % 7)
FROM generate_series(1, 60) AS n;

INSERT INTO "LiteLLM_TeamTable" (team_id, team_alias, organization_id, admins, members, members_with_roles, models, max_budget, metadata)
SELECT 'team-' || n, 'Team ' || n, CASE WHEN n % 3 > 0 THEN 'org-' || n % 3 END, '{}', '{}',
    (SELECT jsonb_agg(jsonb_build_object('user_id', user_id, 'role', CASE WHEN user_id = 'user-' || n THEN 'admin' ELSE 'user' END))
     FROM "LiteLLM_UserTable" WHERE teams @> ARRAY['team-' || n]),
    '{}', CASE WHEN n % 2 = 0 THEN 10000 END, '{}'
FROM generate_series(1, 12) AS n;

INSERT INTO "LiteLLM_TeamMembership" (user_id, team_id, budget_id)
SELECT user_id, teams[1], CASE WHEN random() < 0.3 THEN 'budget-' || 1 + floor(random() * 8)::int END FROM "LiteLLM_UserTable";

INSERT INTO "LiteLLM_OrganizationMembership" (user_id, organization_id, user_role)
SELECT 'user-' || n, 'org-' || 1 + n % 2, 'org_admin' FROM generate_series(1, 6) AS n;

-- The keys are sk-stock-1 … sk-stock-80, stored as LiteLLM stores them; one has expired and one is blocked.
INSERT INTO "LiteLLM_VerificationToken" (token, key_name, key_alias, user_id, team_id, models, budget_id, max_budget, tpm_limit, rpm_limit, expires, blocked, metadata, created_by)
SELECT encode(sha256(('sk-stock-' || n)::bytea), 'hex'), 'sk-...k-' || n, 'alias ' || n, 'user-' || 1 + n % 60,
    CASE WHEN n % 4 > 0 THEN 'team-' || 1 + n % 12 END, '{}', CASE WHEN n % 10 = 0 THEN 'budget-' || 1 + n % 8 END,
    CASE WHEN n % 5 = 0 THEN 5000 END, CASE WHEN n % 7 = 0 THEN 100000 END, CASE WHEN n % 7 = 0 THEN 600 END,
    CASE WHEN n = 79 THEN now() - interval '3 days' END, CASE WHEN n = 80 THEN true END,
    jsonb_build_object('service', 'svc-' || n % 9, 'tags', jsonb_build_array('tag-' || 1 + n % 6)), 'user-1'
FROM generate_series(1, 80) AS n;

INSERT INTO "LiteLLM_EndUserTable" (user_id, alias, blocked) SELECT 'customer-' || n, 'Kunde ' || n, n = 40 FROM generate_series(1, 40) AS n;

INSERT INTO "LiteLLM_TagTable" (tag_name, description, models, created_by)
SELECT 'tag-' || n, 'cost centre ' || n, '{}', 'user-1' FROM generate_series(1, 6) AS n;

-- Values that only their own LiteLLM can decrypt.
INSERT INTO "LiteLLM_CredentialsTable" (credential_id, credential_name, credential_values, credential_info, created_by, updated_by)
SELECT gen_random_uuid(), 'credential-' || n, jsonb_build_object('api_key', md5(n::text)), '{"custom_llm_provider": "openai"}', 'user-1', 'user-1'
FROM generate_series(1, 2) AS n;

INSERT INTO "LiteLLM_ProxyModelTable" (model_id, model_name, litellm_params, model_info, created_by, updated_by)
SELECT gen_random_uuid(), 'model-' || n, jsonb_build_object('model', md5(n::text)), jsonb_build_object('id', 'm' || n), 'user-1', 'user-1'
FROM generate_series(1, 3) AS n;

INSERT INTO "LiteLLM_Config" (param_name, param_value) VALUES ('litellm_settings', '{"drop_params": true}');

-- Calls

CREATE TEMPORARY TABLE models (number, model, model_group, provider, call_type, input, output) ON COMMIT DROP AS
VALUES
    (0, 'gpt-4o', 'smart', 'openai', 'acompletion', 2.5e-6, 1e-5),
    (1, 'gpt-4o-mini', 'lab-chat', 'openai', 'acompletion', 1.5e-7, 6e-7),
    (2, 'claude-haiku-4-5', 'claude', 'anthropic', 'anthropic_messages', 1e-6, 5e-6),
    (3, 'text-embedding-3-small', 'embedding', 'openai', 'aembedding', 2e-8, 0),
    (4, 'llama3.1', 'local', 'ollama', 'acompletion', 0, 0),
    (5, 'gpt-4.1', 'smart', 'azure', 'aresponses', 2e-6, 8e-6);

INSERT INTO "LiteLLM_SpendLogs" (
    request_id, call_type, api_key, spend, total_tokens, prompt_tokens, completion_tokens, "startTime", "endTime",
    "completionStartTime", request_duration_ms, model, model_id, model_group, custom_llm_provider, api_base, "user",
    metadata, cache_hit, cache_key, request_tags, team_id, end_user, requester_ip_address, messages, response,
    proxy_server_request, session_id, status, organization_id, litellm_call_id
)
SELECT
    CASE
        WHEN failed THEN call_id
        WHEN hit THEN 'chatcmpl-' || md5('r' || n) || '_cache_hit' || extract(epoch FROM started)::numeric(16, 6)
        ELSE 'chatcmpl-' || md5('r' || n)
    END,
    call_type, coalesce(k.token, encode(sha256('litellm_proxy_master_key'), 'hex')),
    CASE WHEN failed OR hit THEN 0 ELSE prompt * input::float8 + completion * output::float8 END,
    CASE WHEN failed THEN 0 ELSE prompt + completion END, CASE WHEN failed THEN 0 ELSE prompt END,
    CASE WHEN failed THEN 0 ELSE completion END, started, started + took,
    started + CASE WHEN streamed THEN took * 0.2 ELSE took END, round(extract(epoch FROM took) * 1000),
    model, md5(model), model_group, provider, 'https://' || provider || '.example.com/v1', coalesce(k.user_id, 'default_user_id'),
    jsonb_build_object(
        'user_api_key', coalesce(k.token, ''), 'user_api_key_alias', k.key_alias, 'user_api_key_team_id', k.team_id,
        'user_api_key_user_id', k.user_id, 'status', CASE WHEN failed THEN 'failure' ELSE 'success' END,
        'additional_usage_values', '{}'::jsonb,
        'error_information', CASE WHEN failed THEN jsonb_build_object(
            'error_code', (ARRAY['429', '500', '400', '401', ''])[1 + n % 5], 'error_class', 'RateLimitError',
            'error_message', 'litellm.RateLimitError: zu viele Anfragen – später', 'llm_provider', provider) END,
        'cost_breakdown', CASE WHEN NOT failed THEN jsonb_build_object('input_cost', prompt * input::float8, 'output_cost', completion * output::float8) END
    ),
    CASE WHEN hit THEN 'True' WHEN n % 3 = 0 THEN 'None' ELSE 'False' END, 'Cache OFF',
    CASE WHEN n % 2 = 0 THEN jsonb_build_array('tag-' || 1 + n % 6) ELSE '[]' END,
    k.team_id, CASE WHEN n % 4 = 0 THEN 'customer-' || 1 + n % 40 ELSE '' END, '10.0.' || n % 4 || '.' || n % 250,
    CASE WHEN stored THEN jsonb_build_array(jsonb_build_object('role', 'user', 'content', prose)) ELSE '{}' END,
    CASE WHEN stored AND NOT failed THEN jsonb_build_object(
        'id', 'chatcmpl-' || md5('r' || n), 'object', 'chat.completion', 'model', model || '-2026-01-01',
        'choices', jsonb_build_array(jsonb_build_object('index', 0, 'finish_reason', 'stop',
            'message', jsonb_build_object('role', 'assistant', 'content', reverse(prose)))),
        'usage', jsonb_build_object('prompt_tokens', prompt, 'completion_tokens', completion, 'total_tokens', prompt + completion)
    ) ELSE '{}' END,
    CASE WHEN stored AND n % 2 = 0 THEN jsonb_build_object('model', model_group, 'temperature', 0.7,
        'messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content', prose))) ELSE '{}' END,
    md5('s' || n / 5),
    -- Columns that LiteLLM has got only lately.
    CASE WHEN age < 70 THEN CASE WHEN failed THEN 'failure' ELSE 'success' END END,
    CASE WHEN n % 6 = 0 THEN 'org-1' END,
    CASE WHEN age < 30 THEN call_id END
FROM (
    SELECT
        n, key_number, failed, NOT failed AND random() < 0.05 AS hit, streamed, stored, model_number,
        -- A client that chooses its ids uses one again now and then.
        CASE WHEN NOT failed AND n % 500 = 0 THEN 'retry-of-' || n / 5000 ELSE md5('c' || n) END AS call_id,
        extract(epoch FROM now() - started) / 86400 AS age,
        date_trunc('milliseconds', started AT TIME ZONE 'UTC') AS started, date_trunc('milliseconds', took) AS took, prompt,
        CASE WHEN model_number = 3 THEN 0 ELSE completion END AS completion,
        'Grüße, 你好 🙂 "quoted" \ and a line' || E'\n' || repeat('Wieviel kostet das? ', 1 + n % 20) || md5(n::text) AS prose
    FROM (
        SELECT
            n, floor(81 * random() ^ 2)::int AS key_number, random() < 0.03 AS failed, random() < 0.4 AS streamed,
            random() < 0.1 AS stored,
            (ARRAY[0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 5])[1 + floor(random() * 11)::int] AS model_number,
            now() - interval '2 minutes' - random() * current_setting('population.days')::int * interval '1 day' AS started,
            (0.2 + random() * 20) * interval '1 second' AS took, 1 + floor(4000 * random() ^ 3)::int AS prompt,
            1 + floor(1500 * random() ^ 2)::int AS completion
        FROM generate_series(1, current_setting('population.spend_logs')::int) AS n
    ) AS numbers
) AS calls
JOIN models ON number = model_number
LEFT JOIN "LiteLLM_VerificationToken" k ON k.token = encode(sha256(('sk-stock-' || key_number)::bytea), 'hex');

-- What LiteLLM adds up as calls come in

UPDATE "LiteLLM_VerificationToken" t SET spend = s.spend, total_spend = s.spend
FROM (SELECT api_key, sum(spend) AS spend FROM "LiteLLM_SpendLogs" GROUP BY api_key) s WHERE s.api_key = t.token;

UPDATE "LiteLLM_TeamTable" t SET spend = s.spend
FROM (SELECT team_id, sum(spend) AS spend FROM "LiteLLM_SpendLogs" GROUP BY team_id) s WHERE s.team_id = t.team_id;

UPDATE "LiteLLM_UserTable" t SET spend = s.spend
FROM (SELECT "user", sum(spend) AS spend FROM "LiteLLM_SpendLogs" GROUP BY "user") s WHERE s."user" = t.user_id;

UPDATE "LiteLLM_EndUserTable" t SET spend = s.spend
FROM (SELECT end_user, sum(spend) AS spend FROM "LiteLLM_SpendLogs" GROUP BY end_user) s WHERE s.end_user = t.user_id;

UPDATE "LiteLLM_TagTable" t SET spend = s.spend
FROM (SELECT request_tags ->> 0 AS tag, sum(spend) AS spend FROM "LiteLLM_SpendLogs" GROUP BY tag) s WHERE s.tag = t.tag_name;

CREATE TEMPORARY VIEW daily AS
SELECT
    to_char("startTime", 'YYYY-MM-DD') AS date, "user" AS user_id, team_id, request_tags ->> 0 AS tag, api_key, model, model_group,
    custom_llm_provider, prompt_tokens, completion_tokens, spend, (metadata ->> 'status' = 'success')::int AS successful
FROM "LiteLLM_SpendLogs";

INSERT INTO "LiteLLM_DailyUserSpend" (id, user_id, date, api_key, model, model_group, custom_llm_provider, mcp_namespaced_tool_name, endpoint,
    prompt_tokens, completion_tokens, spend, api_requests, successful_requests, failed_requests, updated_at)
SELECT gen_random_uuid(), user_id, date, api_key, model, min(model_group), custom_llm_provider, '', '',
    sum(prompt_tokens), sum(completion_tokens), sum(spend), count(*), sum(successful), count(*) - sum(successful), now()
FROM daily GROUP BY user_id, date, api_key, model, custom_llm_provider;

INSERT INTO "LiteLLM_DailyTeamSpend" (id, team_id, date, api_key, model, model_group, custom_llm_provider, mcp_namespaced_tool_name, endpoint,
    prompt_tokens, completion_tokens, spend, api_requests, successful_requests, failed_requests, updated_at)
SELECT gen_random_uuid(), team_id, date, api_key, model, min(model_group), custom_llm_provider, '', '',
    sum(prompt_tokens), sum(completion_tokens), sum(spend), count(*), sum(successful), count(*) - sum(successful), now()
FROM daily WHERE team_id IS NOT NULL GROUP BY team_id, date, api_key, model, custom_llm_provider;

INSERT INTO "LiteLLM_DailyTagSpend" (id, tag, date, api_key, model, model_group, custom_llm_provider, mcp_namespaced_tool_name, endpoint,
    prompt_tokens, completion_tokens, spend, api_requests, successful_requests, failed_requests, updated_at)
SELECT gen_random_uuid(), tag, date, api_key, model, min(model_group), custom_llm_provider, '', '',
    sum(prompt_tokens), sum(completion_tokens), sum(spend), count(*), sum(successful), count(*) - sum(successful), now()
FROM daily WHERE tag IS NOT NULL GROUP BY tag, date, api_key, model, custom_llm_provider;

DROP VIEW daily;
