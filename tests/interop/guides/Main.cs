using System;
using System.Collections.Generic;
using System.Linq;

/// <summary>Verifies each request of standard input with the code of docs/guides/verify/csharp.md.</summary>
public static class Program
{
    public static void Main()
    {
        for (var line = Console.In.ReadLine(); line != null; line = Console.In.ReadLine())
        {
            var fields = line.Split('\t');
            var headers = fields.Skip(2)
                .Select(field => field.Split(new[] { ": " }, 2, StringSplitOptions.None))
                .ToDictionary(header => header[0], header => header[1]);
            var verified = Webhook.Verify(fields[0], headers, Convert.FromBase64String(fields[1]));
            Console.Out.WriteLine(verified ? "accepted" : "refused");
        }
    }
}
