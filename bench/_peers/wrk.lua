-- wrk -s wrk.lua URL -- BODIES HEADERS: sends the lines of BODIES in turn, reports one JSON line.
local requests, count, next_one = {}, 0, 0

function init(args)
  for line in io.lines(args[2]) do
    local name, value = line:match("^([^:]+): (.*)$")
    wrk.headers[name] = value
  end
  for body in io.lines(args[1]) do
    count = count + 1
    requests[count] = wrk.format("POST", nil, nil, body)
  end
end

function request()
  next_one = next_one % count + 1
  return requests[next_one]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.status, e.connect + e.read + e.write + e.timeout))
end
