# Verifies each request of standard input with the code of docs/guides/verify/ruby.md.
require_relative "webhook"

$stdin.each_line(chomp: true) do |line|
  secret, body, *fields = line.split("\t", -1)
  headers = fields.to_h { |field| field.split(": ", 2) }
  puts verify_webhook(secret, headers, body.unpack1("m")) ? "accepted" : "refused"
end
