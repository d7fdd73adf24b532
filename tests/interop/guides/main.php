<?php
// Verifies each request of standard input with the code of docs/guides/verify/php.md.
declare(strict_types=1);

error_reporting(E_ALL);
set_error_handler(fn (int $level, string $message) => throw new ErrorException($message));
require __DIR__ . '/webhook.php';

while (($line = fgets(STDIN)) !== false) {
    $fields = explode("\t", rtrim($line, "\n"));
    $headers = [];
    foreach (array_slice($fields, 2) as $field) {
        [$name, $value] = explode(': ', $field, 2);
        $headers[$name] = $value;
    }
    $verified = verify_webhook($fields[0], $headers, base64_decode($fields[1]));
    echo $verified ? "accepted\n" : "refused\n";
}
