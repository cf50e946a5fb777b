-- A tracing compiler at work: numbers, tables, strings, closures, coroutines, C structures through the FFI.
local bit, ffi = require("bit"), require("ffi")
local total = 0x1234567
local function fold(value) total = bit.tobit(bit.bxor(total * 31 % 2147483648, value % 2147483648)) % 2147483648 end

local random = 12345
local function next_random() random = (random * 16807) % 2147483647 return random end

local composite, primes = {}, 0
for i = 2, 400000 do
  if not composite[i] then
    primes = primes + 1
    for k = i * 2, 400000, i do composite[k] = true end
  end
end
fold(primes)

for round = 1, 40 do
  local list = {}
  for i = 1, 5000 do list[i] = next_random() % 10007 end
  table.sort(list)
  for i = 1, #list, 13 do fold(list[i]) end
end

ffi.cdef("typedef struct { double x, y; int hits; } deja_point;")
local points = ffi.new("deja_point[?]", 1000)
for round = 1, 2000 do
  for i = 0, 999 do
    local p = points[i]
    p.x, p.y = p.x + i * 0.5, p.y - round * 0.25
    if p.x > -p.y then p.hits = p.hits + 1 end
  end
end
for i = 0, 999, 7 do fold(points[i].hits + points[i].x) end

local words = {}
for i = 1, 60000 do words[#words + 1] = string.char(97 + next_random() % 26) end
local text = table.concat(words)
for word in text:gmatch("[^aeiou]+") do fold(#word + word:byte(1)) end

local squares = coroutine.wrap(function() for i = 1, 200000 do coroutine.yield(i * i) end end)
for i = 1, 200000 do fold(squares()) end

local function fib(n) return n < 2 and n or fib(n - 1) + fib(n - 2) end
fold(fib(30))
print(string.format("%08x", total))
