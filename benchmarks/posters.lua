-- Posts the files 0, 1, 2, ... of a folder in turn, for ever; writes what wrk counted as JSON.
-- wrk -s posters.lua URL -- FOLDER COUNT CONTENT-TYPE
local requests, turn = {}, 0

function init(args)
  for number = 1, tonumber(args[2]) do
    local file = assert(io.open(args[1] .. "/" .. number - 1, "rb"))
    requests[number] = wrk.format("POST", nil, { ["Content-Type"] = args[3] }, file:read("*a"))
    file:close()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = 0
  for _, count in pairs(summary.errors) do errors = errors + count end
  io.write(string.format(
    '\n{"answers": %d, "seconds": %f, "errors": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, summary.duration / 1e6, errors,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
